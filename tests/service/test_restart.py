"""Nothing is lost and nothing is left behind when a process is killed."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.service.conftest import is_alive


def test_jobs_survive_a_server_killed_with_sigkill_and_run_once(service, tmp_path):
    witness = tmp_path / "witness"
    service.start_server()
    jobs = 40
    for _ in range(jobs // 20):
        bodies = [
            {"command": "sh", "args": ["-c", f"echo $JOB_ID >> {witness}"]} for _ in range(20)
        ]
        submit(service, bodies)
    service.server.send_signal(signal.SIGKILL)
    service.server.wait()
    service.start_server()
    service.start_worker(slots=4)
    service.wait_for(
        lambda: witness.exists() and len(witness.read_text().split()) >= jobs, "all jobs", 30
    )
    states = []

    def ended():
        states[:] = [job["state"] for job in service.json("ps", "--limit", 1000)]
        return set(states) == {"succeeded"}

    service.wait_for(ended, "every job to succeed")
    assert len(states) == jobs
    assert len(witness.read_text().split()) == len(set(witness.read_text().split())) == jobs


def submit(service, bodies):
    facts = service.facts
    request = urllib.request.Request(
        f"{facts['url']}/api/v1/jobs",
        data=json.dumps(bodies).encode(),
        headers={
            "Authorization": f"Bearer {Path(facts['token_file']).read_text().strip()}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["ids"]


@pytest.mark.timeout(90)
def test_a_running_job_goes_on_while_the_server_restarts(service, tmp_path):
    go = tmp_path / "go"
    port_file = service.data_dir / "server.json"
    service.start_server()
    port = service.facts["port"]
    service.start_worker()
    script = f"echo before; while [ ! -e {go} ]; do sleep 0.1; done; echo after; exit 5"
    job = service.verb("submit", "--", "sh", "-c", script).stdout.strip().decode()
    service.wait_for(lambda: service.verb("logs", job).stdout == b"before\n", "the first line")
    service.server.send_signal(signal.SIGKILL)
    service.server.wait()
    port_file.unlink()
    service.server = service._start(
        "server", "remote_runner", "--port", port, "--http-port", 0,
        "--data-dir", service.data_dir,
    )  # fmt: skip
    service.wait_for(port_file.exists, "the server to be ready again")
    go.touch()
    assert service.verb("wait", job).returncode == 5
    assert service.verb("logs", job).stdout == b"before\nafter\n"
    assert service.json("show", job)["attempt"] == 1


def test_the_reaper_ends_every_tree_when_the_worker_is_killed(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    script = f"setsid sleep 1000 & echo $! $$ > {file}; sleep 1000"
    service.verb("submit", "--on-lost", "fail", "--", "sh", "-c", script)
    service.wait_for(lambda: file.exists() and len(file.read_text().split()) == 2, "the job")
    pids = [int(pid) for pid in file.read_text().split()]
    os.kill(worker.pid, signal.SIGKILL)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


def test_a_worker_drains_on_sigterm(service, tmp_path):
    go = tmp_path / "go"
    service.start_server()
    worker = service.start_worker()
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; exit 4"
    job = service.verb("submit", "--", "sh", "-c", script).stdout.strip().decode()
    service.wait_for(lambda: service.json("show", job)["state"] == "running", "the job")
    worker.send_signal(signal.SIGTERM)
    service.wait_for(
        lambda: service.json("workers")[0]["state"] == "draining", "the worker to drain"
    )
    go.touch()
    assert worker.wait(20) == 0
    assert service.verb("wait", job).returncode == 4
