"""`serve --drain`: the first signal waits for the jobs that run, the second does not."""

import signal

import pytest

from tests.commands import kill


@pytest.fixture
def held(service, tmp_path):
    """How a job is submitted that runs until the file `go` is there."""

    def submit():
        script = f"echo begun; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; exit 4"
        return service.submit("sh", "-c", script)

    return submit


def wait_until_it_drains(service, waiting):
    service.wait_for(
        lambda: "stopping" in (service.job(waiting)["pending_reason"] or ""), "the server to drain"
    )


@pytest.mark.parametrize("is_local", [True, False], ids=["local", "worker"])
def test_it_waits_for_the_jobs_that_run_and_answers_meanwhile(service, tmp_path, held, is_local):
    options = ["--drain", "--local-slots", 1] if is_local else ["--drain"]
    server = service.start_server(*options)
    if not is_local:
        service.start_worker(slots=1)
    running, waiting = held(), service.submit("true")
    service.wait_for(lambda: service.output(running) == b"begun\n", "the job")
    server.send_signal(signal.SIGTERM)
    wait_until_it_drains(service, waiting)
    late = service.submit("true")
    assert service.job(running)["state"] == "running"
    (tmp_path / "go").touch()
    assert server.wait(30) == 0
    assert not (service.data_dir / "server.json").exists()
    service.start_server("--local-slots", 1)
    ended = service.job(running)
    assert (ended["exit_code"], ended["attempt"]) == (4, 1)
    assert service.verb("wait", waiting, late).returncode == 0


def test_a_second_signal_ends_it_at_once(service, held):
    server = service.start_server("--drain")
    service.start_worker(slots=1)
    running, waiting = held(), service.submit("true")
    service.wait_for(lambda: service.output(running) == b"begun\n", "the job")
    server.send_signal(signal.SIGTERM)
    wait_until_it_drains(service, waiting)
    assert kill(server, signal.SIGTERM) == 0
    service.start_server()
    assert service.job(running)["state"] == "running"


def test_the_variable_of_the_option(service, held):
    service.env["DUPLEX_RUNNER_DRAIN"] = "1"
    server = service.start_server("--local-slots", 1)
    running, waiting = held(), service.submit("true")
    service.wait_for(lambda: service.output(running) == b"begun\n", "the job")
    server.send_signal(signal.SIGTERM)
    wait_until_it_drains(service, waiting)
    assert service.verb("cancel", running).returncode == 0
    assert server.wait(30) == 0
