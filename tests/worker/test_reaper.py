"""The reaper: ends the trees of a worker that was killed, and never stands in a live one's way."""

import os
import signal
import sys
from contextlib import asynccontextmanager

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
]


@pytest.mark.parametrize("kind", ["worker", "program"])
async def test_it_ends_every_tree_within_two_seconds_of_sigkill(tmp_path, kind):
    file, scratch = tmp_path / "pids", tmp_path / "scratch"
    scratch.mkdir()
    scripts = [tree.replace("$F", str(file)) for tree in TREES]
    worker = await trio.lowlevel.open_process(
        [sys.executable, "-c", RUN_JOBS, kind, str(scratch), *scripts], cwd=ROOT
    )
    pids = await pids_in(file, 6)
    worker.kill()
    await worker.wait()
    with trio.fail_after(2):
        await until(lambda: not any(is_alive(pid) for pid in pids))
    await until(lambda: not list(scratch.iterdir()))
    assert processes_with(str(file)) == []


@asynccontextmanager
async def stopped_reaper(folder):
    """A reaper that neither reads nor does anything else."""
    before = set(_own_children())
    async with opened_reaper(folder) as link:
        [pid] = set(_own_children()) - before
        os.kill(pid, signal.SIGSTOP)
        yield link, pid


def _own_children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


async def test_a_stopped_reaper_stops_nobody(tmp_path):
    with trio.fail_after(PATIENCE):
        async with stopped_reaper(tmp_path) as (link, pid):
            for number in range(20_000):
                link.expect(f"cookie-{number}")
                link.watch(f"cookie-{number}", 1)
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
    link = ReaperLink(writing)

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


async def test_it_leaves_with_its_worker(tmp_path):
    before = set(_own_children())
    async with opened_reaper(tmp_path):
        [pid] = set(_own_children()) - before
    assert not is_alive(pid)
    assert tmp_path.exists()
