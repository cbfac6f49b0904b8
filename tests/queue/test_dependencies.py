"""Jobs that come after others, in the hands of the dispatcher: started, failed and told in time."""

import pytest
import trio

from queued_runner.jobs import JobState
from queued_runner.store import dependencies
from simple_worker.local import LocalRunner
from tests.queue.conftest import inline
from tests.worker.simulation import SimulatedProcesses


@pytest.fixture
def processes():
    """Programs that take ten seconds; `bad` fails."""
    processes = SimulatedProcesses()
    processes.begun = {}

    def program(code):
        async def run(child):
            processes.begun[child.launch.command.args[0]] = trio.current_time()
            await trio.sleep(10)
            return code

        return run

    processes.programs = {"good": program(0), "bad": program(1)}
    return processes


async def test_each_job_begins_when_the_last_of_those_before_it_ends(
    autojump_clock, queue, processes
):
    a, b = queue.add("good", args=("a",)), queue.add("good", args=("b",))
    c = queue.add("good", args=("c",), after=(a,))
    d = queue.add("good", args=("d",), after=(b, c))
    async with queue.server(LocalRunner(4, processes=processes)) as dispatcher:
        assert (await queue.end_of(dispatcher, d)).state is JobState.SUCCEEDED
    begun = {name: round(time) for name, time in processes.begun.items()}
    assert begun == {"a": 0, "b": 0, "c": 10, "d": 20}


async def test_those_who_wait_for_a_dependant_are_told_that_it_failed(
    autojump_clock, queue, processes
):
    bad = queue.add("bad", args=("a",))
    chain = [bad]
    for _ in range(5):
        chain.append(queue.add("good", after=(chain[-1],)))
    async with queue.server(LocalRunner(1, processes=processes)) as dispatcher:
        ended = await queue.end_of(dispatcher, chain[-1])
    assert (ended.state, ended.reason, ended.attempt) == (JobState.FAILED, "dependency", 0)
    assert trio.current_time() == pytest.approx(10, abs=0.5)


async def test_a_cancel_fails_many_dependants_in_pieces_while_others_are_served(
    autojump_clock, queue, monkeypatch
):
    monkeypatch.setattr(dependencies, "BUDGET", 10)
    a = queue.add("good", delay=1000)
    waiting = [queue.add("good", after=(a,)) for _ in range(95)]
    commits = 0

    async def slowly(function):
        nonlocal commits
        commits += 1
        await trio.sleep(1)
        return await inline(function)

    async with queue.server(run_sync=slowly) as dispatcher:
        await dispatcher.cancel(a, None, None)
        begin = trio.current_time()
        other = queue.add("good", delay=1000)
        await dispatcher.cancel(other, None, None)
        assert trio.current_time() - begin < 3
        for job_id in waiting:
            assert (await queue.end_of(dispatcher, job_id)).reason == "dependency"
    assert commits < 20


async def test_a_server_that_died_in_the_middle_is_followed_by_one_that_goes_on(
    autojump_clock, queue, monkeypatch
):
    monkeypatch.setattr(dependencies, "BUDGET", 10)
    a = queue.add("good", delay=1000)
    waiting = [queue.add("good", after=(a,)) for _ in range(35)]
    queue.store.cancel(a, 1.0)
    async with queue.server() as dispatcher:
        ended = [await queue.end_of(dispatcher, job_id) for job_id in waiting]
    assert {job.reason for job in ended} == {"dependency"}


async def test_a_revived_job_runs_again_and_tells_those_who_wait(autojump_clock, queue, processes):
    a = queue.add("bad", args=("a",))
    b = queue.add("good", args=("b",), after=(a,))
    async with queue.server(LocalRunner(1, processes=processes)) as dispatcher:
        await queue.end_of(dispatcher, b)
        processes.programs["bad"] = processes.programs["good"]
        await dispatcher.revive(a)
        assert (await dispatcher.revive(b)).state is JobState.QUEUED
        ended = await queue.end_of(dispatcher, b)
    assert (ended.state, queue.job(a).attempt, ended.attempt) == (JobState.SUCCEEDED, 2, 1)
