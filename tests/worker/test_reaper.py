"""The reaper: ends the trees of a worker that was killed, and never stands in a live one's way."""

import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from simple_worker.reaper_link import ReaperLink, opened_reaper
from tests.commands import ROOT, is_alive
from tests.worker.real import PATIENCE, pids_in, processes_with, until

RUN_JOBS = """
import sys
from pathlib import Path
import trio
from remote_runner.types import Command
from simple_worker.launch import Launch
from simple_worker.machine import opened_machine, opened_own_machine

async def main():
    opened = {"worker": opened_own_machine, "program": opened_machine}[sys.argv[1]]
    async with opened(Path(sys.argv[2])) as machine, trio.open_nursery() as nursery:
        async def drop(stream, data):
            pass
        for script in sys.argv[3:]:
            child = machine.start(Launch(Command("sh", ("-c", script))))
            nursery.start_soon(child.run, drop, 65536)

trio.run(main)
"""

TREES = [
    "setsid sleep 1000 & echo $! $$ >> $F; sleep 1000",
    "(setsid sh -c 'sleep 1000 >&- 2>&- & echo $! >> $F' &); echo $$ >> $F; sleep 1000",
    "trap '' TERM HUP INT; touch $JOB_SCRATCH/left; echo $$ >> $F; while :; do sleep 1; done",
    "echo $$ >> $F; exec env -i sleep 1000",
    "env -i setsid sleep 1000 & echo $! $$ >> $F; sleep 1000",
    "env -i setsid sh -c 'trap \"\" TERM; setsid sleep 1000 & echo $! $$ >> $F; wait' & wait",
]


@asynccontextmanager
async def worker_with_trees(kind, folder):
    """A process that runs `TREES`, and the processes of these; it is killed at the end."""
    file, scratch = folder / "pids", folder / "scratch"
    scratch.mkdir()
    scripts = [tree.replace("$F", str(file)) for tree in TREES]
    worker = await trio.lowlevel.open_process(
        [sys.executable, "-c", RUN_JOBS, kind, str(scratch), *scripts],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    async with worker.stderr:
        try:
            pids = await pids_in(file, 10)
            yield worker, pids
        finally:
            worker.kill()
            await worker.wait()
    with trio.fail_after(2):
        await until(lambda: not any(is_alive(pid) for pid in pids))
    await until(lambda: not list(scratch.iterdir()))
    assert processes_with(str(file)) == []


@pytest.mark.parametrize("kind", ["worker", "program"])
async def test_it_ends_every_tree_within_two_seconds_of_sigkill(tmp_path, kind):
    async with worker_with_trees(kind, tmp_path) as (_, pids):
        assert all(is_alive(pid) for pid in pids)


async def test_it_ends_an_orphan_that_has_just_shed_all_that_its_worker_would_find(tmp_path):
    file = tmp_path / "pids"
    daemon = "env -i setsid sh -c 'env -i setsid sleep 1000 & echo $! $$ >> $F; wait'"
    script = f"({daemon} >/dev/null 2>&1 &); echo $$ >> $F; sleep 1000".replace("$F", str(file))
    worker = await trio.lowlevel.open_process(
        [sys.executable, "-c", RUN_JOBS, "worker", str(tmp_path), script], cwd=ROOT
    )
    try:
        pids = await pids_in(file, 3)
    finally:
        worker.kill()
        await worker.wait()
    try:
        with trio.fail_after(2):
            await until(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        for pid in pids:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def _reapers_of(pid):
    """The reapers among the children of a process."""
    found = []
    for child in _children(pid):
        with suppress(OSError):
            if b"simple_worker.reaper" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


async def test_a_killed_reaper_has_a_successor_that_knows_what_runs(tmp_path):
    async with worker_with_trees("worker", tmp_path) as (worker, pids):
        [first] = _reapers_of(worker.pid)
        os.kill(first, signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            said = await worker.stderr.receive_some()
        assert said == b"the reaper process has died (SIGKILL) and was replaced\n"
        # The kernel tells the arguments of a process a moment after its start.
        await until(lambda: _reapers_of(worker.pid) not in ([], [first]))
        assert all(is_alive(pid) for pid in pids)


async def test_a_reaper_that_cannot_be_started_is_tried_again(tmp_path, monkeypatch):
    said = []
    async with opened_reaper(tmp_path, said.append) as link:
        monkeypatch.setattr(sys, "executable", "/no/such")
        os.kill(link.pid, signal.SIGKILL)
        await until(lambda: said)
        assert said[0].startswith("the reaper process has died (SIGKILL) and cannot be replaced")
        assert said[0].endswith("'/no/such'; next try in 1 s")
        link.expect("cookie")
        link.unwatch("cookie")
        monkeypatch.undo()
        await until(lambda: len(said) == 2)
        successor = link.pid
    assert said[1] == "the reaper process has died (SIGKILL) and was replaced"
    assert not is_alive(successor)


async def test_without_a_reaper_a_worker_leaves_at_once(tmp_path, monkeypatch):
    said = []
    with trio.fail_after(PATIENCE):
        async with opened_reaper(tmp_path, said.append) as link:
            monkeypatch.setattr(sys, "executable", "/no/such")
            os.kill(link.pid, signal.SIGKILL)
            await until(lambda: said)


@asynccontextmanager
async def stopped_reaper(folder):
    """A reaper that neither reads nor does anything else."""
    before = set(_own_children())
    async with opened_reaper(folder) as link:
        [pid] = set(_own_children()) - before
        os.kill(pid, signal.SIGSTOP)
        yield link, pid


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _own_children():
    return _children(os.getpid())


async def test_a_stopped_reaper_stops_nobody(tmp_path):
    with trio.fail_after(PATIENCE):
        async with stopped_reaper(tmp_path) as (link, pid):
            for number in range(20_000):
                link.expect(f"cookie-{number}")
                # Its own number: should this test be killed, it would end whatever it is told of.
                link.watch(f"cookie-{number}", pid)
                link.unwatch(f"cookie-{number}")
    assert not is_alive(pid)


async def test_a_reaper_that_has_died_stops_nobody(tmp_path):
    async with stopped_reaper(tmp_path) as (link, pid):
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not is_alive(pid))
        link.expect("cookie")
        link.unwatch("cookie")


@pytest.fixture
def link():
    """A link whose pipe has a reader, and what the reader would know after all that was said."""
    reading, writing = os.pipe()
    link = ReaperLink()
    link.connect(1, writing)

    def known():
        told = b""
        while not told.endswith(b"quit\nquit\n"):
            link.quit()  # any word brings along what could not be told
            told += os.read(reading, 1 << 20)
        live = {}
        for line in told.decode().splitlines():
            cookie, _, pid = line[1:].partition(" ")
            if line.startswith("+"):
                live[cookie] = int(pid)
            elif line.startswith("-"):
                del live[cookie]
        return live

    yield link, known
    os.close(reading)
    os.close(writing)


def test_what_a_full_pipe_could_not_take_is_told_later(link):
    link, known = link
    for number in range(30_000):
        link.expect(f"c{number}")
        link.watch(f"c{number}", number)
        if number % 1000:
            link.unwatch(f"c{number}")
    assert known() == {f"c{number}": number for number in range(0, 30_000, 1000)}


def test_a_new_reader_is_told_all_that_lives(link):
    link, _ = link
    link.watch("main", 3)
    link.watch("gone", 4)
    link.adopt(5, 777)
    link.adopt(6, 778)
    link.unwatch("gone")
    link.bury(6)
    link.disconnect()
    link.expect("new")
    link.unwatch("main")
    reading, writing = os.pipe()
    link.connect(2, writing)
    assert os.read(reading, 1000) == b"+@5 777\n+new 0\n"
    os.close(reading)
    os.close(writing)


async def test_it_leaves_with_its_worker(tmp_path):
    before = set(_own_children())
    async with opened_reaper(tmp_path):
        [pid] = set(_own_children()) - before
    assert not is_alive(pid)
    assert tmp_path.exists()
