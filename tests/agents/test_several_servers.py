"""Agents of several servers on one queue: whose their attempts are when one of these dies."""

import pytest
import trio

from queued_runner.agents.agent import Agent
from queued_runner.agents.run import HEARTBEAT_LEASE
from queued_runner.agents.tasks import Report, TaskOver, UnknownTask
from queued_runner.fleet import LEASE
from queued_runner.jobs import Limits
from tests.agents.conftest import OURS

GOOD = Report("succeeded")
ANYONE = Agent()


def owner(bench, job_id):
    """The place of the server that has the attempt."""
    server = bench.job(job_id).server
    return None if server is None else server[0]


async def end_of(bench, job_id):
    """The job, once it runs no more."""
    while bench.job(job_id).state == "running":
        await trio.sleep(0.1)
    return bench.job(job_id)


@pytest.mark.parametrize("agent", [ANYONE, OURS])
async def test_a_restarted_server_has_what_its_agents_have_at_once(bench, autojump_clock, agent):
    async with bench.server(place="a-"):
        job_id = bench.add()
        task = (await bench.agents.pull(agent)).id
        await bench.agents.take(task, "stdout", 0, b"before\n")
    began = trio.current_time()
    async with bench.server(place="a-") as agents:
        assert [worker.running for worker in agents.workers()] == [(f"{job_id}.1",)]
        assert owner(bench, job_id) == "a"
        await agents.take(task, "stdout", 1, b"after\n")
        assert trio.current_time() - began < 1
        # An agent that says nothing for longer than `detach` is waited for, as before.
        await trio.sleep(HEARTBEAT_LEASE - 1 if agent is OURS else 10 * LEASE)
        await agents.report(task, GOOD)
        job = await end_of(bench, job_id)
        assert (job.state, job.attempt) == ("succeeded", 1)
        assert await bench.output(job_id) == [("stdout", b"before\n"), ("stdout", b"after\n")]
        assert bench.dispatcher.tally.handovers == 1


async def test_an_agent_may_go_on_at_whichever_server_it_speaks_to_once_its_own_is_dead(
    bench, autojump_clock
):
    async with bench.server(place="b-") as others:
        async with bench.server(place="a-") as agents:
            job_id = bench.add()
            task = (await agents.pull(OURS)).id
        await others.recall(task)
        with pytest.raises(UnknownTask):
            others.heartbeat(task)  # its server may yet be alive
        await trio.sleep(2 * LEASE)
        assert owner(bench, job_id) is None
        await others.take(task, "stdout", 0, b"here\n")
        assert owner(bench, job_id) == "b"
        others.heartbeat(task)
        await others.report(task, GOOD)
        assert (await end_of(bench, job_id)).attempt == 1


async def test_a_server_that_was_away_for_long_gets_back_what_its_agents_speak_of(
    bench, autojump_clock
):
    async with bench.server(place="b-"):
        async with bench.server(place="a-") as agents:
            job_id = bench.add()
            task = (await agents.pull(OURS)).id
        await trio.sleep(2 * LEASE)
        async with bench.server(place="a-") as agents:
            assert owner(bench, job_id) is None
            await agents.recall(task)
            assert agents.heartbeat(task).worker == "ours"
            assert owner(bench, job_id) == "a"


async def test_what_a_living_server_has_is_never_taken(bench, autojump_clock):
    async with bench.server(place="a-") as agents:
        job_id = bench.add()
        task = (await agents.pull(OURS)).id
        async with bench.server(place="b-") as others:
            for _ in range(20):
                await others.recall(task)
                with pytest.raises(UnknownTask):
                    others.heartbeat(task)
                agents.heartbeat(task)
                await trio.sleep(LEASE / 4)
            with pytest.raises(TaskOver):
                await others.report(task, GOOD)
            assert others.workers() == []
        assert owner(bench, job_id) == "a"
        await agents.report(task, GOOD)
        job = await end_of(bench, job_id)
        assert (job.state, job.handovers) == ("succeeded", 0)


async def test_what_nobody_speaks_of_is_given_up(bench, autojump_clock):
    async with bench.server(place="b-", limits=Limits(detach=40.0)) as others:
        async with bench.server(place="a-") as agents:
            job_id = bench.add(on_lost="fail")
            task = (await agents.pull(OURS)).id
        await trio.sleep(LEASE + 40 + 10)
        assert (bench.job(job_id).state, bench.job(job_id).reason) == ("failed", "worker-lost")
        with pytest.raises(TaskOver):
            await others.report(task, GOOD)
