"""What is SQLite's own: the file, its rights and its faults, and the plans of its queries."""

import os
import re
import signal
import stat
import subprocess
import sys
from importlib import resources

import apsw
import pytest

from queued_runner.jobs import JobSpec
from queued_runner.store.base import SchemaTooNew, StoreBroken, StoreFull
from queued_runner.store.sqlite import MEMORY, SQLiteStore
from remote_runner.types import Offer, Slot
from tests.commands import ROOT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.db"


@pytest.fixture
def connections(monkeypatch):
    """SQLite's own view of the stores that a test opens, in their order."""
    opened = []
    monkeypatch.setattr(apsw, "connection_hooks", [opened.append])
    return opened


def test_nobody_else_may_read_the_files(path):
    before = os.umask(0)
    try:
        store = SQLiteStore(path)
        store.begin()
        store.add([JobSpec(command="x")], 0.0)
        store.commit()
        files = list(path.parent.iterdir())
        assert {file.name for file in files} >= {"queue.db", "queue.db-wal", "queue.db-shm"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_each_commit_is_synced(path, connections):
    store = SQLiteStore(path)
    assert connections[0].pragma("journal_mode") == "wal"
    assert connections[0].pragma("synchronous") == 2  # FULL
    store.close()


def test_what_was_committed_outlives_a_kill(path):
    """SIGKILL right after the ids were told: not a job of them is missing, not one is half."""
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from queued_runner.jobs import JobSpec
from queued_runner.store.sqlite import SQLiteStore
store = SQLiteStore({str(path)!r})
for batch in range(20):
    store.begin()
    ids = store.add([JobSpec(command=f"c{{batch}}")] * 50, 1.0).ids
    store.commit()
    print(ids[0], ids[-1], flush=True)
store.begin()
store.add([JobSpec(command="not committed")], 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    assert child.returncode == -signal.SIGKILL
    told = [tuple(map(int, line.split())) for line in child.stdout.splitlines()]
    store = SQLiteStore(path)
    kept = {job.id: job.spec.command for job in store.page(limit=5000)}
    assert len(kept) == 1000
    for batch, (first, last) in enumerate(told):
        assert {kept[job_id] for job_id in range(first, last + 1)} == {f"c{batch}"}
    store.close()


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"\0" * 4096])
def test_a_file_that_is_no_database_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreBroken, match=re.escape(str(path))):
        SQLiteStore(path)
    assert path.read_bytes() == content


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreBroken, match="cannot be used"):
        SQLiteStore(tmp_path / "none" / "queue.db")


def test_a_queue_of_a_newer_release_is_refused_and_left_alone(path):
    SQLiteStore(path).close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 1000)
    db.close()
    with pytest.raises(SchemaTooNew, match=r"schema 1000.*install that release again"):
        SQLiteStore(path)
    db = apsw.Connection(str(path))
    assert db.pragma("user_version") == 1000
    db.close()


def test_a_queue_of_the_first_release_is_taken_over(path):
    db = apsw.Connection(str(path))
    scripts = resources.files("queued_runner.store.migrations.sqlite")
    db.execute((scripts / "0001_jobs.sql").read_text())
    db.pragma("user_version", 1)
    for state in ("queued", "failed", "queued"):
        db.execute(
            "INSERT INTO jobs (spec, priority, needs, state, is_delayed, created_at, run_after)"
            """ VALUES ('{"command": "x"}', 0, '', ?, 0, 1.0, 1.0)""",
            (state,),
        )
    db.close()
    store = SQLiteStore(path)
    store.begin()
    jobs = store.claim([Offer({}, (Slot("w", "w-1", "b"),) * 8)], 1.0, 9)
    assert [(job.id, job.after, job.is_awaited) for job in jobs] == [(1, (), False), (3, (), False)]
    (stranded,) = store.add([JobSpec(command="y", after=(1, 2))], 1.0).ids
    assert store.get(stranded).reason == "dependency"
    store.commit()
    store.close()


def test_opening_again_migrates_nothing_twice(path):
    store = SQLiteStore(path)
    store.begin()
    (job_id,) = store.add([JobSpec(command="x")], 0.0).ids
    store.commit()
    store.close()
    again = SQLiteStore(path)
    assert again.get(job_id).spec.command == "x"
    again.close()


def test_a_reader_sees_commits_and_cannot_write(path):
    store = SQLiteStore(path)
    reader = SQLiteStore(path, is_reader=True)
    store.begin()
    (job_id,) = store.add([JobSpec(command="x")], 0.0).ids
    assert reader.page() == []
    store.commit()
    assert [job.id for job in reader.page()] == [job_id]
    with pytest.raises(StoreBroken, match="readonly"):
        reader.add([JobSpec(command="y")], 0.0)
    reader.close()
    store.close()


def test_a_full_disk_is_told_and_undone(path, connections):
    store = SQLiteStore(path)
    pages = connections[0].pragma("page_count")
    connections[0].pragma("max_page_count", pages + 2)
    store.begin()
    with pytest.raises(StoreFull, match="no room"):
        store.add([JobSpec(command="x" * 100_000)], 0.0)
    store.rollback()
    assert store.page() == []
    store.close()


@pytest.mark.parametrize("column", ["state = 'queued'", "state = 'running'"])
def test_the_engine_itself_keeps_an_ended_job_ended(connections, column):
    store = SQLiteStore(MEMORY)
    store.add([JobSpec(command="x")], 0.0)
    store.cancel(1, 1.0)
    if "running" in column:
        with pytest.raises(apsw.ConstraintError, match="stays ended"):
            connections[0].execute(f"UPDATE jobs SET {column}")
    else:  # what a person's retry does
        connections[0].execute(f"UPDATE jobs SET {column}")
    store.close()


def test_a_claim_costs_the_same_in_a_long_queue(connections):
    """Counted in steps of SQLite's machine, which no other process disturbs."""

    def steps(queued, delayed):
        store = SQLiteStore(MEMORY)
        for offset in range(0, queued, 1000):
            store.add([JobSpec(command="x", needs={"n": str(offset)})] * 1000, 0.0)
        store.add([JobSpec(command="x")] * 100, 0.0)
        store.add([JobSpec(command="x", delay=1000)] * delayed, 0.0)
        count = 0

        def tick():
            nonlocal count
            count += 1
            return False

        connections[-1].set_progress_handler(tick, 10)
        store.claim([Offer({}, (Slot("w", "w-1", "b"),) * 8)], 1.0, 1000)
        store.next_run_after(1.0)
        connections[-1].set_progress_handler(None)
        store.close()
        return count

    assert steps(20_000, 5_000) <= steps(0, 10) * 1.5
