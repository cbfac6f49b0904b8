"""A worker that stood still begins nothing that the runner may have given to another meanwhile."""

import pytest

from remote_runner.protocol.messages import Close, Ping, Pong, Refused, Started, Stdin, StdinEnd
from tests.worker.test_worker import nothing, settle, sleeper, spawn


@pytest.fixture
def bench(bench):
    bench.processes.programs = {"sleep": sleeper, "true": nothing}
    return bench


@pytest.mark.parametrize("which_first", ["clock", "spawn"])
async def test_a_spawn_that_waited_while_the_worker_stood_still_is_not_begun(
    autojump_clock, bench, which_first
):
    """The runner may have given it to somebody else long ago."""
    bench.start()
    async with bench.network.ready() as runner:
        await settle()

        async def stand_still():
            autojump_clock.jump(150)

        if which_first == "spawn":
            runner.emitter.stream.send_stream.send_all_hook = stand_still
        runner.emitter.send_nowait(spawn("1.1", "sleep"))
        if which_first == "clock":
            await stand_still()
        await runner.hear_end()
    async with bench.network.ready() as runner:
        assert runner.listed == ()
        await runner.say(spawn("1.2", "true"))
        await runner.hear(Close)
    assert len(bench.processes.children) == 1
    assert "no runner any more: this worker stood still for too long" in bench.said


@pytest.mark.parametrize("which_first", ["clock", "spawn"])
async def test_a_spawn_that_waited_for_half_of_its_detach_is_not_begun(
    autojump_clock, bench, which_first
):
    """The worker stood still for less than ends its connection. The runner may have given up what
    it said then, and nothing else."""
    bench.start()
    async with bench.network.ready() as runner:
        await settle()

        sending = runner.emitter.stream.send_stream
        deliver = sending.send_all_hook

        async def deliver_late():
            await deliver()
            autojump_clock.jump(5)
            sending.send_all_hook = deliver

        if which_first == "spawn":
            sending.send_all_hook = deliver_late
        runner.emitter.send_nowait(spawn("1.1", "sleep", detach_ms=9_000))
        runner.emitter.send_nowait(spawn("2.1", "sleep", detach_ms=11_000))
        if which_first == "clock":
            autojump_clock.jump(5)
        assert (await runner.hear(Refused)).id == "1.1"
        assert (await runner.hear(Started)).id == "2.1"
        assert bench.processes.children[0].launch.detach == pytest.approx(6, abs=0.5)


async def test_a_spawn_that_was_read_before_a_standstill_is_as_old_as_that(autojump_clock, bench):
    """The worker is stopped while it begins another one."""
    begin = bench.processes.start

    def begin_and_stand_still(launch):
        autojump_clock.jump(5)
        return begin(launch)

    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        bench.processes.start = begin_and_stand_still
        runner.emitter.send_nowait(spawn("1.1", "sleep"))
        runner.emitter.send_nowait(spawn("2.1", "sleep", detach_ms=9_000))
        assert (await runner.hear(Started)).id == "1.1"
        assert (await runner.hear(Refused)).id == "2.1"


async def test_what_is_read_after_an_answer_of_the_runner_is_new(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        autojump_clock.jump(5)
        asked = await runner.hear(Ping)
        await runner.say(spawn("1.1", "sleep", detach_ms=9_000))
        assert (await runner.hear(Refused)).id == "1.1"
        await runner.say(Pong(asked.n))
        await runner.say(spawn("1.2", "sleep", detach_ms=9_000))
        assert (await runner.hear(Started)).id == "1.2"


async def test_an_input_that_waited_makes_its_spawn_as_old(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep", stdin="pipe", detach_ms=9_000), Stdin("1.1", b"in"))
        await settle()
        autojump_clock.jump(5)
        await runner.say(StdinEnd("1.1"))
        assert (await runner.hear(Refused)).id == "1.1"
