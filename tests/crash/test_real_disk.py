"""What only real system calls show: SQLite's own files fail as strace says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT
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


def test_a_sync_of_the_database_that_fails_is_not_passed_over(tmp_path: Path) -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    path = tmp_path / "queue.db"
    path.touch()
    sync = "fdatasync,fsync"
    done = subprocess.run(
        [
            "strace", "-f", "-o", "/dev/null", "-P", path, "-e", f"trace={sync}",
            "-e", f"inject={sync}:error=EIO:when={AT_OPENING + 1}+",
            sys.executable, "-c", PROGRAM, path,
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "disk I/O error" in done.stdout
