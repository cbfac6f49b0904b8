"""Which processes a program with children of its own looks at when a job has ended."""

import os
import subprocess

import pytest
import trio

from simple_worker.leftovers import ROUND, MarkedLeftovers
from simple_worker.tree import COOKIE, newest_process
from tests.commands import is_alive
from tests.worker.real import PATIENCE, until


@pytest.fixture
def start_marked():
    """Starts a process with a cookie, as the children of a job have it."""
    started = []

    def start(cookie):
        process = subprocess.Popen(["sleep", "1000"], env={COOKIE: cookie, "PATH": os.defpath})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


async def end(leftovers, pid, cookie):
    with trio.fail_after(PATIENCE):
        await leftovers.end(pid, cookie)


async def test_what_is_younger_than_the_job_is_looked_at_and_what_is_older_is_not(start_marked):
    leftovers = MarkedLeftovers()
    older, main, younger = (start_marked(cookie) for cookie in ("a", "", "a"))
    leftovers.begin(main.pid, "a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end, leftovers, main.pid, "a")
        await trio.to_thread.run_sync(younger.wait)
    assert is_alive(older.pid)
    assert is_alive(main.pid)


@pytest.mark.parametrize("why", ["it ran long", "numbers went round", "nobody saw it begin"])
async def test_where_numbers_tell_nothing_all_are_looked_at(start_marked, mock_clock, why):
    leftovers = MarkedLeftovers()
    mock_clock.rate = 1
    older = start_marked("a")
    main = start_marked("").pid
    if why == "numbers went round":
        main = newest_process() + 1_000_000
    if why != "nobody saw it begin":
        leftovers.begin(main, "a")
    if why == "it ran long":
        mock_clock.jump(ROUND)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end, leftovers, main, "a")
        await trio.to_thread.run_sync(older.wait)


async def test_a_cookie_is_not_one_that_it_begins_with(start_marked):
    """Or a program whose cookies are shorter, as in these tests, ends jobs of others."""
    leftovers = MarkedLeftovers()
    other, own = start_marked("ab"), start_marked("a")
    await end(leftovers, other.pid + 1_000_000, "a")
    assert not is_alive(own.pid)
    assert is_alive(other.pid)


async def test_the_newest_process_is_the_one_that_was_started_last(start_marked):
    # Others start processes here too: it is so once in a while.
    await until(lambda: start_marked("").pid == newest_process())
