"""The server is killed or stopped, and started again: no job, no output and no outcome is lost."""

import signal

import pytest

from tests.commands import PATIENCE, kill


def test_jobs_survive_a_server_killed_with_sigkill_and_run_once(service, tmp_path):
    witness = tmp_path / "witness"
    server = service.start_server()
    body = {"command": "sh", "args": ["-c", f"echo $JOB_ID >> {witness}"]}
    jobs = [job for _ in range(10) for job in service.submit_many([body] * 20)]
    kill(server)
    service.start_server()
    service.start_worker(slots=4)
    assert service.verb("wait", *jobs).returncode == 0
    assert sorted(map(int, witness.read_text().split())) == jobs
    assert len(jobs) == 200


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_running_job_and_its_client_go_on_while_the_server_restarts(service, tmp_path, how):
    go = tmp_path / "go"
    server = service.start_server()
    ports = service.facts
    service.start_worker()
    script = (
        f"n=0; while [ ! -e {go} ]; do n=$((n + 1)); echo $n; sleep 0.01; done; echo end; exit 5"
    )
    # Without a buffer: `communicate` does not look into it.
    client = service.start_verb("run", "--", "sh", "-c", script, bufsize=0)
    first = client.stdout.readline()
    assert first == b"1\n"
    kill(server, how)
    service.start_server("--port", ports["port"], "--http-port", ports["http_port"])
    service.wait_for(lambda: service.json("workers"), "the worker to come back")
    go.touch()
    output = first + client.communicate(timeout=PATIENCE)[0]
    assert client.returncode == 5
    *numbers, last = output.split(b"\n")[:-1]
    assert last == b"end"
    assert numbers == [b"%d" % number for number in range(1, len(numbers) + 1)]
    (job,) = service.json("ps")
    assert job["attempt"] == 1
    assert service.verb("logs", job["id"]).stdout == output


def test_a_server_stops_at_once_on_sigterm_and_says_no_more(service):
    server = service.start_server()
    service.start_worker()
    service.run("true")
    assert kill(server, signal.SIGTERM) == 0
    assert not (service.data_dir / "server.json").exists()
