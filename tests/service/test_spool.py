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


def open_files(pid):
    """The files without a name that a process has open, and their sizes."""
    files = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed meanwhile
            if os.readlink(descriptor).endswith("(deleted)"):
                files[descriptor] = descriptor.stat().st_size
    return files


def spool_files(pid):
    """Their sizes."""
    return list(open_files(pid).values())


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


ONCE = """
import os, sys, time
if os.environ["JOB_ATTEMPT"] == "1":
    open(sys.argv[2], "w").close()
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
    sys.stdout.buffer.write(b"".join(b"%09d" % n * 111 + b"\\n" for n in range(20_000)))
    sys.stdout.flush()
    time.sleep(1000)
print("again")
"""


def test_a_job_whose_output_cannot_be_read_back_is_tried_again(service, tmp_path):
    go, begun = tmp_path / "go", tmp_path / "begun"
    server = service.start_server()
    port = service.facts["port"]
    worker = service.start_worker()
    job = service.submit(sys.executable, "-c", ONCE, str(go), str(begun))
    service.wait_for(begun.exists, "the start")
    kill(server)
    go.touch()
    service.wait_for(lambda: sum(spool_files(worker.pid)) > 10_000_000, "the spool")
    for file in open_files(worker.pid):
        os.truncate(file, 100)  # as a disk that fails: it does not give back what it took
    service.start_server("--port", port)
    service.wait_for(lambda: service.job(job)["finished_at"], "the end of the job")
    assert service.job(job)["state"] == "succeeded"
    attempts = service.json("show", job)["attempts"]
    assert [attempt["reason"] for attempt in attempts] == ["abandoned", "exit"]
    assert service.output(job) == b"again\n"
    lost = service.verb("logs", job, "--attempt", 1).stdout
    assert len(lost) >= 4_000_000, "the window"
    assert lost == expected()[: len(lost)]
    assert f"{job}.1 ends: its output cannot be read back: " in service.logs()
