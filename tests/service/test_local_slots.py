"""A server that runs jobs in slots of its own, with no worker anywhere."""

import signal

from tests.commands import is_alive, kill


def test_nothing_of_a_job_is_left_not_even_what_hides(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server("--local-slots", 1)
    script = f"env -i setsid sh -c 'echo $$ > {file}; exec sleep 1000 >&- 2>&-' &"
    script += f" while [ ! -s {file} ]; do sleep 0.01; done; exit 3"
    job, _ = service.run("sh", "-c", script)
    assert job["exit_code"] == 3
    assert not is_alive(int(file.read_text()))


def test_a_restart_runs_its_jobs_again_and_costs_them_nothing(service, tmp_path):
    file = tmp_path / "pids"
    server = service.start_server("--local-slots", 1)
    job = service.submit("sh", "-c", f"echo $$ >> {file}; [ $JOB_ATTEMPT = 5 ] || sleep 1000")
    for attempt in range(1, 5):
        pids = service.read_pids(file, attempt)
        assert kill(server, signal.SIGTERM) == 0
        assert not is_alive(pids[-1])
        server = service.start_server("--local-slots", 1)
    assert service.verb("wait", job).returncode == 0
