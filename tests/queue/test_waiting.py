"""Waiting for jobs: every waiter is woken, and nothing is kept when nobody waits."""

import gc
import weakref

import trio


async def test_those_who_wait_for_one_job_share_what_wakes_them(autojump_clock, queue):
    job = queue.add("x", delay=1000)
    async with queue.server() as dispatcher:
        ended = []

        async def wait():
            ended.append(await queue.end_of(dispatcher, job))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await dispatcher.cancel(job, None, None)
        assert [end.state.value for end in ended] == ["cancelled"] * 3


async def test_nothing_is_kept_for_a_job_that_nobody_waits_for_any_more(autojump_clock, queue):
    async with queue.server() as dispatcher:
        event = dispatcher.changes.of(1)
        assert dispatcher.changes.of(1) is event
        kept = weakref.ref(event)
        del event
        gc.collect()
        assert kept() is None

        waiting = []

        async def wait(job_id):
            event = dispatcher.changes.of(job_id)
            waiting.append(weakref.ref(event))
            await event.wait()

        async with trio.open_nursery() as nursery:  # a client that goes away before the end
            for job_id in range(100):
                nursery.start_soon(wait, job_id)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        gc.collect()
        assert [event for event in waiting if event() is not None] == []
