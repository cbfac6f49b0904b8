"""What only real system calls show: they fail, or the server dies at one, as strace says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import PATIENCE, ROOT, Service
from tests.crash.killed import SYNCS, WRITES, kill_once, start_traced
from tests.crash.strace import why_not

PROGRAM = """
import sys
from queued_runner.jobs import JobSpec
from queued_runner.store.base import StoreBroken
from queued_runner.store.sqlite import CHECKPOINT, SQLiteStore

store = SQLiteStore(sys.argv[1])
try:
    for _ in range(4):
        store.begin()
        store.add([JobSpec(command="x" * 4000)] * CHECKPOINT, 0.0)
        store.commit()
    print("passed over")
except StoreBroken as error:
    print(error)
"""
AT_OPENING = 3
"""Syncs of the database file until its first checkpoint."""


@pytest.fixture(autouse=True)
def _needs_strace() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


def test_a_sync_of_the_database_that_fails_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.touch()
    done = subprocess.run(
        [
            "strace", "-f", "-o", "/dev/null", "-P", path, "-e", f"trace={SYNCS}",
            "-e", f"inject={SYNCS}:error=EIO:when={AT_OPENING + 1}+",
            sys.executable, "-c", PROGRAM, path,
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "disk I/O error" in done.stdout


@pytest.mark.parametrize(("calls", "number"), [(SYNCS, 3), (SYNCS, 14), (WRITES, 40)])
def test_a_server_that_is_killed_at_a_sync_or_write_has_lost_nothing(
    tmp_path: Path, calls: str, number: int
) -> None:
    """A few of the many that `python -m tests.crash_sweep` tries."""
    was_killed, wrong = kill_once(tmp_path, calls, number)
    assert was_killed
    assert wrong == []


def test_a_server_whose_disk_fails_says_so_and_ends(service: Service) -> None:
    first = service.start_server()  # the schema alone takes many syncs
    first.terminate()
    assert first.wait(PATIENCE) == 0
    server = start_traced(service, SYNCS, "error=EIO:when=12")
    service.wait_until_ready(server)
    told: list[int] = []

    def submit_for_ever() -> None:
        while True:
            told.append(service.submit("true"))

    with pytest.raises(OSError):
        submit_for_ever()
    assert server.wait(PATIENCE) == 74
    assert "disk I/O error; check the disk and the file, then start again" in service.logs()
    service.start_server()
    assert len(told) > 3
    assert {job["id"] for job in service.jobs()} >= set(told)
