"""The real server, killed by strace as it is about to sync or write for the n-th time.

Twenty jobs go through it and a real worker; then a second server ends what is left. Owns what the
client was told, and what must be true after it. The machine lives on: what was written and not
synced is still there, so this proves the order of things, and `script.py` the syncs.
"""

import os
import signal
import socket
import sys
from collections import Counter
from http.client import HTTPException
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.commands import PATIENCE, Service

SYNCS = "fdatasync,fsync"
WRITES = "pwrite64,writev"
LARGE = b"".join(b"%d\n" % number for number in range(1, 20_001))
SCRIPTS = {
    "succeed": ("echo few", "succeeded", b"few\n"),
    "talk": ("seq 1 20000", "succeeded", LARGE),
    "fail": ("echo few; exit 3", "failed", b"few\n"),
    "stay": ("exec sleep 600", "cancelled", b""),
}
JOBS = ["succeed", "talk", "stay", "fail"] * 5


class Told:
    """What the client has been told."""

    def __init__(self) -> None:
        self.jobs: dict[int, str] = {}
        self.cancelled: set[int] = set()


def kill_once(folder: Path, calls: str, number: int) -> tuple[bool, list[str]]:
    """Whether the server was killed at the `number`-th of these calls (each of its threads counts
    for itself), and what was wrong afterwards."""
    witness = folder / "witness"
    witness.touch()
    told = Told()
    with Service(folder) as service:
        ports = {"--port": free_port(), "--http-port": free_port()}
        options = [each for option in ports.items() for each in option]
        server = start_traced(service, calls, f"signal=SIGKILL:when={number}", *options)
        service.start(
            "w", sys.executable, "-m", "simple_worker", "--server", f"127.0.0.1:{ports['--port']}",
            "--name", "w", "--slots", 4, "--state-dir", folder / "w",
        )  # fmt: skip
        was_killed = not use(service, server, witness, told)
        service.start_server(*options)
        end_all(service, told)
        return was_killed, judge(service, witness, told)


def start_traced(service: Service, calls: str, fault: str, *options: object) -> Popen[bytes]:
    """A server to whose calls this happens, in strace's words. It may never become ready."""
    return service.start(
        "traced", "strace", "-f", "-qq", "-o", "/dev/null",
        "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}",
        sys.executable, "-m", "remote_runner", *options,
    )  # fmt: skip


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def use(service: Service, server: Popen[bytes], witness: Path, told: Told) -> bool:
    """Submit all, the first half in one request, and see all to its end; false: it was killed."""
    file = service.data_dir / "server.json"
    service.wait_for(lambda: file.exists() or server.poll() is not None, "the first server")
    try:
        for some in (JOBS[:10], *([name] for name in JOBS[10:])):
            bodies = [body(name, witness) for name in some]
            told.jobs.update(zip(service.submit_many(bodies), some, strict=True))
        end_all(service, told)
        os.kill(service.facts["pid"], signal.SIGTERM)
    except (OSError, HTTPException):
        server.wait(PATIENCE)
        return False
    return server.wait(PATIENCE) == 0


def body(name: str, witness: Path) -> dict[str, Any]:
    """A job that first writes down that it was begun."""
    script = f"echo $JOB_ID >> {witness}; {SCRIPTS[name][0]}"
    return {"command": "sh", "args": ["-c", script], "name": name}


def end_all(service: Service, told: Told) -> None:
    """Wait until every job has ended; those that stay are cancelled, once each."""

    def have_ended() -> bool:
        jobs = service.jobs()
        for job in jobs:
            if job["name"] == "stay" and job["id"] not in told.cancelled:
                service.cancel(job["id"])
                told.cancelled.add(job["id"])
        return all(job["finished_at"] for job in jobs)

    service.wait_for(have_ended, "the end of all jobs")


def judge(service: Service, witness: Path, told: Told) -> list[str]:
    """What is not as it must be, a sentence each."""
    jobs = {job["id"]: job for job in service.jobs()}
    wrong = [
        f"job {job_id}, {name}: its submit was answered, and it is gone"
        for job_id, name in told.jobs.items()
        if job_id not in jobs or jobs[job_id]["name"] != name
    ]
    lives = Counter(map(int, witness.read_text().split()))
    for job_id, job in jobs.items():
        what = f"job {job_id}, {job['name']}"
        _, state, output = SCRIPTS[job["name"]]
        if job["state"] != state:
            wrong.append(f"{what}: {job['state']}, {job['reason']}")
        if lives[job_id] > 1 or (lives[job_id] == 0 and job["name"] != "stay"):
            wrong.append(f"{what}: was run {lives[job_id]} times")
        if (stored := service.output(job_id)) != output:
            wrong.append(f"{what}: {len(stored)} bytes of output, not {len(output)}")
    return wrong
