"""The commands, while the server is away: what a job prints waits at its worker, on disk."""

import hashlib
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.commands import PATIENCE, kill

SIZE = 50 * 1000 * 1000
PRINT = """
import os, sys, time
go, done, lines = sys.argv[1:]
while not os.path.exists(go):
    time.sleep(0.02)
for number in range(int(lines)):
    sys.stdout.write(f"{number:09}" * 111 + "\\n")
sys.stdout.flush()
open(done, "w").close()
"""
MAX_GROWTH = 16 * 1024 * 1024
"""Bytes of memory: the window, what is read back and written at once, and what Python keeps."""


def expected():
    text = b"".join(b"%09d" % number * 111 + b"\n" for number in range(SIZE // 1000))
    assert len(text) == SIZE
    return text


def peak(pid):
    """Bytes of memory that a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def spool_files(pid):
    """The sizes of the files without a name that a process has open."""
    sizes = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed meanwhile
            if os.readlink(descriptor).endswith("(deleted)"):
                sizes.append(descriptor.stat().st_size)
    return sizes


def test_50_mb_printed_while_the_server_was_away_arrive_byte_for_byte(service, tmp_path):
    go, done = tmp_path / "go", tmp_path / "done"
    server = service.start_server()
    port = service.facts["port"]
    worker = service.start_worker()
    service.run("true")
    before = peak(worker.pid)
    job = service.submit(sys.executable, "-c", PRINT, str(go), str(done), str(SIZE // 1000))
    service.wait_for(lambda: service.job(job)["state"] == "running", "the start")
    kill(server)
    go.touch()
    service.wait_for(done.exists, "the whole output to be written", 2 * PATIENCE)
    service.wait_for(lambda: sum(spool_files(worker.pid)) > SIZE - 5_000_000, "the spool")
    service.start_server("--port", port)
    service.wait_for(lambda: service.job(job)["finished_at"], "the end of the job", 2 * PATIENCE)
    assert service.job(job)["state"] == "succeeded"
    assert service.job(job)["attempt"] == 1
    output = service.output(job)
    assert hashlib.sha256(output).digest() == hashlib.sha256(expected()).digest()
    assert peak(worker.pid) - before <= MAX_GROWTH
    assert spool_files(worker.pid) == []


def test_nothing_of_a_spool_is_left_by_a_worker_that_was_killed(service):
    server = service.start_server()
    worker = service.start_worker()
    service.run("true")
    job = service.submit("yes")
    service.wait_for(lambda: service.job(job)["state"] == "running", "the start")
    kill(server)
    service.wait_for(lambda: sum(spool_files(worker.pid)) > 10_000_000, "the spool")
    kill(worker, signal.SIGKILL)
    service.wait_for(lambda: not list(service.temporary.iterdir()), "the reaper")
