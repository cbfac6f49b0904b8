"""Counts for those who ask often: little of the time goes into them, however many there are."""

import trio

from queued_runner.jobs import JobState
from queued_runner.recount import FRESH, SHARE, Recount


async def test_a_slow_count_is_made_seldom_and_once_for_all_who_ask(autojump_clock):
    counted = 0

    async def count():
        nonlocal counted
        await trio.sleep(2)
        counted += 1
        return {JobState.QUEUED: counted}

    counts = Recount(count)
    seen = []

    async def ask():
        seen.append((await counts.get())[JobState.QUEUED])

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert seen == [1] * 10
    for _ in range(100):
        await trio.sleep(SHARE * 2 / 100)
        await ask()
    assert seen[-1] == 1
    await trio.sleep(FRESH)
    assert await counts.get() == dict.fromkeys(JobState, 0) | {JobState.QUEUED: 2}


async def test_a_quick_count_is_fresh(autojump_clock):
    counted = 0

    async def count():
        nonlocal counted
        counted += 1
        return {}

    counts = Recount(count)
    await counts.get()
    await trio.sleep(FRESH)
    await counts.get()
    assert counted == 1
    await trio.sleep(0.1)
    await counts.get()
    assert counted == 2
