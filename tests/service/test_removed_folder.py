"""Somebody removes the folder of a worker (a cleaner of /tmp does): it goes on in a new one."""

import shutil

import pytest

from tests.commands import kill


@pytest.mark.parametrize("is_work_dir", [False, True])
def test_a_worker_whose_folder_was_removed_goes_on(service, tmp_path, is_work_dir):
    place = tmp_path / "work" if is_work_dir else service.temporary
    place.mkdir(exist_ok=True)
    service.start_server()
    worker = service.start_worker("w1", 2, *(["--work-dir", place] if is_work_dir else []))
    script = "touch $JOB_SCRATCH/file && cd $JOB_SCRATCH/.. && pwd"
    job, first = service.run("sh", "-c", script)
    assert job["state"] == "succeeded"
    folder = first.decode().strip()
    for _ in range(2):
        shutil.rmtree(place if is_work_dir else folder)
        job, again = service.run("sh", "-c", script)  # at once: no look comes between
        assert (job["state"], job["attempt"], again) == ("succeeded", 1, first)
    shutil.rmtree(folder)
    service.wait_for(lambda: list(place.glob("*")), "the worker to look at its folder")
    assert "no new jobs for now" not in service.logs()
    kill(worker)
    service.wait_for(lambda: not list(place.iterdir()), "the reaper")
