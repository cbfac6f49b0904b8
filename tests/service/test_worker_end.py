"""A worker is killed or stopped: its process trees are gone, its jobs end well all the same."""

import os
import signal

import pytest

from tests.commands import is_alive, kill


def test_the_reaper_ends_every_tree_when_the_worker_is_killed(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    service.submit("sh", "-c", f"setsid sleep 1000 & echo $! $$ > {file}; sleep 1000")
    pids = service.read_pids(file, 2)
    kill(worker)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


def test_the_reaper_ends_what_jobs_have_orphaned_and_nothing_marks(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    daemon = f"setsid sleep 1000 & echo $! $$ >> {file}; wait"
    script = f'(env -i setsid sh -c "$0" >/dev/null 2>&1 &); echo $$ >> {file}; sleep 1000'
    service.submit("sh", "-c", script, daemon)
    pids = service.read_pids(file, 3)
    service.run("true")  # at the end of a job its worker looks for orphans
    kill(worker)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


def test_orphans_are_looked_for_each_second_too(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    # What ends after the orphan has begun is an orphan too, and is buried in the same look.
    script = (
        f"(env -i setsid sleep 1000 >/dev/null 2>&1 & echo $! >> {file});"
        f"(true & echo $! >> {file}); echo $$ >> {file}; sleep 1000"
    )
    service.submit("sh", "-c", script)
    pids = service.read_pids(file, 3)
    service.wait_for(lambda: not os.path.exists(f"/proc/{pids[1]}"), "the burial")
    kill(worker)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


@pytest.mark.parametrize(
    ("options", "successor"),
    [
        pytest.param([], "w1", id="it-comes-back"),
        pytest.param(["--detach", "2s", "--heartbeat", "500ms"], "w2", id="it-stays-away"),
    ],
)
def test_the_job_of_a_killed_worker_is_tried_again(service, tmp_path, options, successor):
    file = tmp_path / "pids"
    service.start_server(*options)
    worker = service.start_worker("w1")
    script = (
        f"echo $JOB_ATTEMPT $JOB_WORKER; [ $JOB_ATTEMPT = 2 ] && exit;"
        f" setsid sleep 1000 & echo $! $$ > {file}; sleep 1000"
    )
    job = service.submit("sh", "-c", script)
    pids = service.read_pids(file, 2)
    kill(worker)
    service.start_worker(successor)
    assert service.verb("wait", job).returncode == 0
    assert not any(is_alive(pid) for pid in pids)
    assert service.json("show", job)["attempt"] == 2
    assert service.verb("logs", job).stdout.decode() == f"2 {successor}\n"


def test_a_worker_drains_on_sigterm(service, tmp_path):
    go = tmp_path / "go"
    service.start_server()
    worker = service.start_worker()
    job = service.submit("sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 4")
    service.wait_for(lambda: service.job(job)["state"] == "running", "the job")
    worker.send_signal(signal.SIGTERM)
    service.wait_for(
        lambda: service.json("workers")[0]["state"] == "draining", "the worker to drain"
    )
    go.touch()
    assert worker.wait(20) == 0
    assert service.job(job)["exit_code"] == 4
