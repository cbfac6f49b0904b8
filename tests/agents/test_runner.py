"""What agents say, in any order and more than once, through restarts and silences."""

import shlex

import pytest
import trio

from queued_runner.agents.agent import Agent
from queued_runner.agents.chunks import TooEarly, TooLate, given_up_line
from queued_runner.agents.run import GAP, HEARTBEAT_LEASE, LEASE, SETTLE
from queued_runner.agents.runner import LONG_GAP
from queued_runner.agents.tasks import Report, TaskOver, UnknownTask, attempt_of
from queued_runner.jobs import Limits
from remote_runner.types import Reason
from tests.agents.conftest import OURS

ANYONE = Agent()
GOOD, BAD = Report("succeeded"), Report("failed")


async def test_a_pull_gets_a_job_or_nothing(bench, autojump_clock):
    async with bench.server() as agents:
        assert await agents.pull(ANYONE) is None
        job_id = bench.add("echo", args=("it's",), name="n")
        task = await agents.pull(ANYONE)
        assert attempt_of(task.id) == (job_id, 1)
        words = shlex.split(task.command)
        assert words[:3] == ["exec", "env", "--"]
        assert words[-3:] == ["echo", "it's", "</dev/null"]
        assert {f"JOB_ID={job_id}", "JOB_ATTEMPT=1", "JOB_NAME=n", "JOB_WORKER=agent"} < set(words)
        assert await agents.pull(ANYONE) is None


async def test_each_of_many_pulls_gets_its_own_job(bench, autojump_clock):
    async with bench.server() as agents:
        jobs = [bench.add() for _ in range(20)]
        got = []

        async def pull():
            got.append(await agents.pull(ANYONE))

        async with trio.open_nursery() as nursery:
            for _ in range(25):
                nursery.start_soon(pull)
        assert sorted(attempt_of(task.id)[0] for task in got if task is not None) == jobs
        assert got.count(None) == 5


async def test_a_pull_that_is_cancelled_loses_no_job(bench, autojump_clock):
    async def slow(commit):
        await trio.sleep(0.01)
        return commit()

    async with bench.server(run_sync=slow) as agents:
        job_id = bench.add()
        for step in range(12):
            with trio.move_on_after(step * 0.005):
                await agents.pull(ANYONE)
                break
            await trio.sleep(2)
            assert bench.job(job_id).state == "queued"
        assert bench.job(job_id).losses == 0
        assert bench.job(job_id).state == "running"


async def test_output_is_in_order_and_taken_once_however_it_arrives(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        async with trio.open_nursery() as nursery:
            for index in (2, 1, 2, 0, 1, 3):
                nursery.start_soon(agents.take, task, "stdout", index, b"%d\n" % index)
        await agents.take(task, "stderr", 0, b"e\n")
        await agents.take(task, "stdout", 1, b"another text\n")
        await agents.report(task, GOOD)
        job = await bench.end_of(job_id)
        assert (job.state, job.reason, job.log_bytes) == ("succeeded", "exit", 10)
        text = b"".join(data for stream, data in await bench.output(job_id) if stream == "stdout")
        assert text == b"0\n1\n2\n3\n"


async def test_what_is_answered_is_on_disk(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.take(task, "stdout", 0, b"x\n")
        assert await bench.logs.recover(job_id, 1, 1) == 2  # as a new server would find it


async def test_output_after_the_status_is_waited_for_and_then_added(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.take(task, "stdout", 0, b"first\n")
        await agents.report(task, GOOD)
        assert bench.job(job_id).state == "running"
        await trio.sleep(SETTLE / 2)
        await agents.take(task, "stdout", 1, b"second\n")
        began = trio.current_time()
        job = await bench.end_of(job_id)
        assert trio.current_time() - began == pytest.approx(SETTLE, abs=0.1)
        assert (job.state, job.log_bytes) == ("succeeded", 13)
        for _ in range(2):
            await agents.take(task, "stdout", 2, b"third\n")
        await agents.take(task, "stdout", 0, b"first\n")
        assert bench.job(job_id).log_bytes == 19
        assert b"".join(data for _, data in await bench.output(job_id)) == b"first\nsecond\nthird\n"
        await agents.report(task, GOOD)
        with pytest.raises(TaskOver):
            await agents.report(task, BAD)


async def test_late_output_is_in_order_too(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.report(task, GOOD)
        await bench.end_of(job_id)
        async with trio.open_nursery() as nursery:
            for index in (2, 0, 1, 2):
                nursery.start_soon(agents.take, task, "stdout", index, b"%d\n" % index)
                await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await agents.take(task, "stdout", 9, b"9\n")
        assert trio.current_time() - began == pytest.approx(GAP, abs=0.5)
        text = b"".join(data for _, data in await bench.output(job_id))
        missing = b"".join(given_up_line("stdout", index) for index in range(3, 9))
        assert text == b"0\n1\n2\n" + missing + b"9\n"
        assert bench.job(job_id).log_bytes == len(text)
        for index in range(10):
            assert await is_kept(agents, task, index) == (index not in range(3, 9))
        with pytest.raises(TooEarly, match="send chunk 10 first"):
            await agents.take(task, "stdout", 1 << 50, b"x\n")


async def test_output_that_is_all_late_is_kept(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.report(task, BAD)
        job = await bench.end_of(job_id)
        assert (job.state, job.exit_code, job.log_bytes) == ("failed", 1, 0)
        await agents.take(task, "stderr", 0, b"why\n")
        assert await bench.output(job_id) == [("stderr", b"why\n")]
        assert bench.job(job_id).log_bytes == 4


async def test_who_says_that_all_is_there_is_not_waited_for(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(OURS)).id
        began = trio.current_time()
        await agents.report(
            task, Report("failed", Reason.SIGNAL, None, "SIGKILL", is_complete=True)
        )
        assert trio.current_time() == began
        job = bench.job(job_id)
        assert (job.state, job.reason, job.signal) == ("failed", "signal", "SIGKILL")


async def send_on(agents, task, stream, index, data):
    """Send a chunk until it is answered, as an agent does that loses nothing."""
    while True:
        try:
            return await agents.take(task, stream, index, data)
        except TooEarly:
            await trio.sleep(1)


async def test_who_sends_one_after_the_other_in_any_order_is_told_and_loses_nothing(
    bench, autojump_clock
):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        for index in (3, 1, 2):
            with pytest.raises(TooEarly, match="waits for chunk 0"):
                await agents.take(task, "stdout", index, b"%d\n" % index)
        for index in (0, 3, 1, 2):
            await agents.take(task, "stdout", index, b"%d\n" % index)
        await agents.report(task, GOOD)
        job = await bench.end_of(job_id)
        assert (job.log_bytes, job.log_dropped) == (8, 0)
        assert b"".join(data for _, data in await bench.output(job_id)) == b"0\n1\n2\n3\n"


@pytest.mark.parametrize("pause", [12, 300])
async def test_a_chunk_that_comes_late_while_the_task_runs_is_not_lost(
    bench, autojump_clock, pause
):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_on, agents, task, "stdout", 1, b"one\n")
            await trio.sleep(pause)
            await agents.take(task, "stdout", 0, b"zero\n")
        await agents.report(task, GOOD)
        await bench.end_of(job_id)
        assert b"".join(data for _, data in await bench.output(job_id)) == b"zero\none\n"


async def test_after_the_status_a_missing_chunk_has_longer_than_others(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.report(task, GOOD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agents.take, task, "stdout", 1, b"one\n")
            await trio.sleep(GAP / 2)
            assert bench.job(job_id).state == "running"
            await agents.take(task, "stdout", 0, b"zero\n")
        began = trio.current_time()
        await bench.end_of(job_id)
        assert trio.current_time() - began == pytest.approx(SETTLE, abs=0.1)
        assert b"".join(data for _, data in await bench.output(job_id)) == b"zero\none\n"


async def test_what_never_came_is_given_up_at_the_end_and_the_output_says_so(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_on, agents, task, "stdout", 1, b"one\n")
            nursery.start_soon(send_on, agents, task, "stdout", 3, b"three\n")
            await trio.sleep(20)
            began = trio.current_time()
            await agents.report(task, GOOD)
            await bench.end_of(job_id)  # though the agent sends on and on
            assert trio.current_time() - began == pytest.approx(GAP, abs=0.1)
        assert not await is_kept(agents, task, 0)
    expected = given_up_line("stdout", 0) + b"one\n" + given_up_line("stdout", 2) + b"three\n"
    async with bench.server() as agents:
        kept = [await is_kept(agents, task, index) for index in range(5)]
        assert kept == [False, True, False, True, True]
        text = b"".join(data for _, data in await bench.output(job_id))
        assert text == expected + b"4\n"
        assert bench.job(job_id).log_bytes == len(text)


async def test_what_waits_when_its_agent_is_lost_is_kept(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add(on_lost="fail")
        task = (await agents.pull(OURS)).id
        with pytest.raises(TooEarly):
            await agents.take(task, "stderr", 1, b"last words\n")
        assert (await bench.end_of(job_id)).reason == "worker-lost"
        text = b"".join(data for _, data in await bench.output(job_id))
        assert text == given_up_line("stderr", 0) + b"last words\n"


async def is_kept(agents, task, index):
    try:
        await agents.take(task, "stdout", index, b"%d\n" % index)
    except TooLate:
        return False
    return True


async def test_who_never_sends_a_chunk_again_can_send_others_for_ever(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        answers = []

        async def send(index):
            try:
                await agents.take(task, "stdout", index, b"%d\n" % index)
                answers.append(index)
            except TooEarly:
                pass

        async with trio.open_nursery() as nursery:
            for index in range(1, 101):
                nursery.start_soon(send, index)
                await trio.sleep(5)
        await agents.report(task, GOOD)
        await bench.end_of(job_id)
        text = b"".join(data for _, data in await bench.output(job_id))
        assert text == given_up_line("stdout", 0) + b"".join(b"%d\n" % n for n in range(1, 101))
        assert not await is_kept(agents, task, 0)


async def test_where_there_is_no_room_only_what_was_missing_for_long_is_given_up(
    bench, autojump_clock
):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        async with trio.open_nursery() as nursery:
            for index in (*range(1, 63), 64):
                nursery.start_soon(send_on, agents, task, "stdout", index, b"x\n")
            await trio.sleep(LONG_GAP)
            nursery.start_soon(send_on, agents, task, "stdout", 65, b"x\n")
            await trio.sleep(1)
            await agents.take(task, "stdout", 63, b"x\n")
        await agents.report(task, GOOD)
        await bench.end_of(job_id)
        text = b"".join(data for _, data in await bench.output(job_id))
        assert text == given_up_line("stdout", 0) + b"x\n" * 65


async def test_what_was_given_up_in_a_life_before_is_refused_too(bench, autojump_clock):
    async with bench.server() as agents:
        bench.add()
        task = (await agents.pull(ANYONE)).id
        async with trio.open_nursery() as nursery:
            for index in range(1, 65):
                nursery.start_soon(send_on, agents, task, "stdout", index, b"x\n")
            await trio.sleep(LONG_GAP)
            await agents.take(task, "stdout", 65, b"x\n")
        assert not await is_kept(agents, task, 0)
    async with bench.server() as agents:
        assert [await is_kept(agents, task, n) for n in (0, 1, 65, 66)] == [False, True, True, True]


async def test_what_waits_is_bounded(bench, autojump_clock):
    async with bench.server() as agents:
        bench.add()
        task = (await agents.pull(ANYONE)).id
        async with trio.open_nursery() as nursery:
            for index in range(1, 65):
                nursery.start_soon(agents.take, task, "stdout", index, b"x")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(TooEarly, match="send chunk 0 first"):
                await agents.take(task, "stdout", 65, b"x")
            await agents.take(task, "stdout", 0, b"x")


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_output_beyond_the_limit_is_counted_and_dropped(bench, autojump_clock, is_restarted):
    limits = Limits(max_log_size=10)
    async with bench.server(limits=limits) as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        for index in range(5):
            await agents.take(task, "stdout", index, b"four")
        if not is_restarted:
            await agents.report(task, GOOD)
            job = await bench.end_of(job_id)
            assert (job.log_bytes, job.log_dropped) == (10, 10)
            return
    async with bench.server(limits=limits) as agents:
        await agents.take(task, "stdout", 5, b"four")
        await agents.report(task, GOOD)
        job = await bench.end_of(job_id)
        assert (job.log_bytes, job.log_dropped) == (10, 4)


@pytest.mark.parametrize(("agent", "lease"), [(ANYONE, LEASE), (OURS, HEARTBEAT_LEASE)])
async def test_an_agent_that_gives_no_sign_of_life_is_lost(bench, autojump_clock, agent, lease):
    async with bench.server() as agents:
        job_id = bench.add(on_lost="fail")
        task = (await agents.pull(agent)).id
        await trio.sleep(lease - 5)
        await agents.take(task, "stdout", 0, b"alive\n")
        await trio.sleep(lease - 5)
        assert bench.job(job_id).state == "running"
        await trio.sleep(6)
        assert (bench.job(job_id).state, bench.job(job_id).reason) == ("failed", "worker-lost")
        with pytest.raises(UnknownTask):
            agents.heartbeat(task)
        with pytest.raises(TaskOver):
            await agents.report(task, GOOD)


async def test_one_heartbeat_makes_the_lease_a_short_one(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add(on_lost="fail")
        task = (await agents.pull(ANYONE)).id
        await trio.sleep(1000)
        for _ in range(3):
            agents.heartbeat(task)
            await trio.sleep(HEARTBEAT_LEASE - 1)
            assert bench.job(job_id).state == "running"
        await trio.sleep(2)
        assert bench.job(job_id).reason == "worker-lost"


async def test_a_new_server_goes_on_where_the_old_one_was(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.take(task, "stdout", 0, b"a\n")
        await agents.take(task, "stderr", 0, b"e\n")
        await agents.take(task, "stdout", 1, b"b\n")
    async with bench.server() as agents:
        assert [worker.running for worker in agents.workers()] == [(f"{job_id}.1",)]
        await trio.sleep(LEASE - 5)
        await agents.take(task, "stdout", 1, b"b\n")
        await agents.take(task, "stdout", 2, b"c\n")
        await agents.take(task, "stderr", 1, b"f\n")
    async with bench.server() as agents:
        await agents.report(task, GOOD)
        job = await bench.end_of(job_id)
        assert (job.state, job.attempt) == ("succeeded", 1)
        assert await bench.output(job_id) == [
            ("stdout", b"a\n"), ("stderr", b"e\n"), ("stdout", b"b\n"), ("stdout", b"c\n"),
            ("stderr", b"f\n"),
        ]  # fmt: skip


async def test_an_end_that_was_answered_survives_a_killed_server(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        await agents.report(task, BAD)
        assert bench.job(job_id).state == "running"
    async with bench.server() as agents:
        await agents.take(task, "stdout", 0, b"late\n")
        job = await bench.end_of(job_id)
        assert (job.state, job.exit_code, job.log_bytes) == ("failed", 1, 5)


async def test_what_an_agent_does_not_have_is_queued_again_at_its_next_pull(bench, autojump_clock):
    lost = Agent("id-1", "boot-1", name="ours")
    async with bench.server() as agents:
        job_id = bench.add(on_lost="fail")
        first = await agents.pull(lost)
    async with bench.server() as agents:
        again = await agents.pull(lost)
        assert attempt_of(again.id) == (job_id, 2) != attempt_of(first.id)
        with pytest.raises(TaskOver):
            await agents.take(first.id, "stdout", 0, b"from the dead\n")
        agents.heartbeat(again.id)
        await agents.pull(Agent("id-1", "boot-1", frozenset({again.id})))
        assert bench.job(job_id).state == "running"
        await agents.pull(Agent("id-1", "boot-2"))
        job = await bench.end_of(job_id)
        assert (job.state, job.reason) == ("failed", "worker-lost")


@pytest.mark.parametrize("report", [GOOD, BAD, None])
async def test_a_cancel_is_told_with_a_heartbeat_and_holds_at_the_end(
    bench, autojump_clock, report
):
    async with bench.server() as agents:
        job_id = bench.add()
        task = (await agents.pull(ANYONE)).id
        assert agents.heartbeat(task).kill_order is None
        await bench.dispatcher.cancel(job_id, "SIGINT", 3.0)
        assert agents.heartbeat(task).kill_order == ("SIGINT", 3.0)
        if report is not None:
            await agents.report(task, report)
        job = await bench.end_of(job_id)
        assert job.state == ("succeeded" if report is GOOD else "cancelled")


async def test_a_cancel_survives_a_restart(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add(kill_signal="SIGINT", kill_grace=0.5)
        task = (await agents.pull(OURS)).id
        await bench.dispatcher.cancel(job_id, None, None)
        assert agents.heartbeat(task).kill_order == ("SIGINT", 0.5)
    async with bench.server() as agents:
        assert agents.heartbeat(task).kill_order == ("SIGINT", 0.5)


async def test_a_failure_after_its_time_was_a_timeout(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add(timeout=20)
        task = await agents.pull(ANYONE)
        assert "timeout -s 15 -k 10.000 20.000" in task.command
        await trio.sleep(20.1)
        await agents.report(task.id, BAD)
        assert (await bench.end_of(job_id)).reason == "timeout"


async def test_a_command_that_no_agent_can_run_fails_and_says_why(bench, autojump_clock):
    async with bench.server() as agents:
        large = bench.add("cat", stdin="x" * 100_000)
        small = bench.add("cat")
        while bench.job(small).state != "running":
            await agents.pull(ANYONE)
        job = await bench.end_of(large)
        assert (job.state, job.reason, job.exit_code) == ("failed", "spawn-error", 126)
        assert b"no agent can run" in (await bench.output(large))[0][1]
        assert bench.job(small).state == "running"


async def test_only_what_the_labels_of_an_agent_allow_is_given_to_it(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add(needs={"os": "linux"})
        assert await agents.pull(ANYONE) is None
        assert await agents.pull(Agent("x", labels={"os": "plan9"})) is None
        task = await agents.pull(Agent("y", labels={"os": "linux", "gpu": "1"}))
        assert attempt_of(task.id)[0] == job_id


async def test_tasks_that_there_are_not(bench, autojump_clock):
    async with bench.server() as agents:
        job_id = bench.add()
        for task in (1, job_id, job_id << 16, (job_id << 16) + 1, (1 << 53) - 1):
            with pytest.raises(UnknownTask):
                await agents.take(task, "stdout", 0, b"x")
            with pytest.raises(UnknownTask):
                await agents.report(task, GOOD)
            with pytest.raises(UnknownTask):
                agents.heartbeat(task)


async def test_agents_that_pull_are_shown_as_workers(bench, autojump_clock):
    async with bench.server() as agents:
        assert agents.workers() == []
        job_id = bench.add()
        await agents.pull(OURS)
        await agents.pull(ANYONE)
        ours, anyone = agents.workers()
        assert (ours.name, ours.slots, ours.free, ours.running) == ("ours", 2, 1, (f"{job_id}.1",))
        assert (anyone.name, anyone.free, anyone.running) == ("agent", 1, ())
        await trio.sleep(61)
        assert agents.workers() == []
