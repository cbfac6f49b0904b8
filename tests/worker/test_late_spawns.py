"""A worker begins nothing that the runner may have given up, or to another, meanwhile.

What it reads may have been on its way for long, and is then begun only once the runner has
answered: what it said until then is here.
"""

import pytest
import trio

from remote_runner.protocol.messages import (
    Close,
    Kill,
    Ping,
    Pong,
    Refused,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Withdraw,
)
from simple_worker.session import MAX_PINGS
from tests.worker.test_ahead import heard
from tests.worker.test_worker import nothing, settle, sleeper, spawn

DETACH = 10.0
LATE = 9.0
"""Seconds: 0.9 of it."""


def short(attempt_id, command="sleep", **options):
    return spawn(attempt_id, command, detach_ms=DETACH * 1000, **options)


@pytest.fixture
def bench(bench):
    bench.processes.programs = {"sleep": sleeper, "true": nothing}
    return bench


async def answer(runner):
    """Answer the question that has been asked, once: what is it that has begun before?"""
    await settle()
    asked = await runner.hear((Ping, Started))
    assert isinstance(asked, Ping)
    await runner.say(Pong(asked.n))


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
async def test_a_spawn_that_waited_in_the_connection_is_asked_about(
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
            autojump_clock.jump(LATE)
            sending.send_all_hook = deliver

        if which_first == "spawn":
            sending.send_all_hook = deliver_late
        runner.emitter.send_nowait(short("1.1"))
        if which_first == "clock":
            autojump_clock.jump(LATE)
        await answer(runner)
        assert (await runner.hear(Started)).id == "1.1"


async def test_a_spawn_that_the_network_may_have_held_back_is_asked_about(autojump_clock, bench):
    """The worker has not stood still, and has heard nothing."""
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(LATE)
        await runner.say(short("1.1"))
        await answer(runner)
        assert (await runner.hear(Started)).id == "1.1"


async def test_one_that_is_new_enough_begins_without_an_answer(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(LATE - 0.5)
        await runner.say(short("1.1"))
        assert (await runner.hear(Started)).id == "1.1"


async def test_a_machine_that_slept_asks(autojump_clock, bench):
    """Trio's clock stood still as well; the other one may be set back."""
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        bench.now -= 1000
        await runner.say(short("1.1"))
        assert (await runner.hear(Started)).id == "1.1"
        bench.now += 1000 + LATE
        await runner.say(short("2.1"))
        await answer(runner)
        assert (await runner.hear(Started)).id == "2.1"


@pytest.mark.parametrize("end", [Kill("1.1"), Stale("1.1"), Withdraw("1.1")])
async def test_what_was_given_up_meanwhile_never_begins(autojump_clock, bench, end):
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(LATE)
        await runner.say(short("1.1"), end)
        await answer(runner)
        await runner.say(short("2.1", "true"))
        assert (await runner.hear(Started)).id == "2.1"
    assert len(bench.processes.children) == 1


async def test_an_answer_is_as_old_as_its_question(autojump_clock, bench):
    """Where answers take too long, nothing that is given up so soon can be begun; the rest can,
    though there are more of the others than slots."""
    bench.start(slots=2)
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(LATE)
        others = [short(f"{number}.1") for number in range(1, 5)]
        await runner.say(*others, spawn("5.1", "true", detach_ms=40_000))
        assert (await runner.hear(Started)).id == "5.1"
        await trio.sleep(LATE)
        await runner.say(Pong(1))
        for other in others:
            refused = await runner.hear(Refused)
            assert refused.id == other.options.id
            assert "takes too long" in refused.reason


async def test_a_link_that_is_slow_for_its_detach_is_quick_enough(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(LATE)
        await runner.say(short("1.1"))
        asked = await runner.hear(Ping)
        await trio.sleep(0.6 * DETACH)
        await runner.say(Pong(asked.n))
        assert (await runner.hear(Started)).id == "1.1"


async def test_it_is_not_asked_for_each_of_them(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(LATE)
        for attempt_id in ("1.1", "2.1"):
            await runner.say(short(attempt_id))
        await answer(runner)
        for attempt_id in ("1.1", "2.1"):
            message = await runner.hear((Ping, Started))
            assert isinstance(message, Started)
            assert message.id == attempt_id


async def test_a_spawn_that_was_read_before_a_standstill_is_as_old_as_that(autojump_clock, bench):
    """The worker is stopped while it begins another one."""
    begin = bench.processes.start

    def begin_and_stand_still(launch):
        autojump_clock.jump(LATE)
        return begin(launch)

    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        bench.processes.start = begin_and_stand_still
        runner.emitter.send_nowait(spawn("1.1", "sleep"))
        runner.emitter.send_nowait(short("2.1"))
        assert (await runner.hear(Started)).id == "1.1"
        await answer(runner)
        assert (await runner.hear(Started)).id == "2.1"


@pytest.mark.parametrize("slept", [False, True], ids=["awake", "the machine slept"])
async def test_one_that_waited_long_for_a_slot_is_asked_about(autojump_clock, bench, slept):
    """The runner asks for it sooner; one that cannot any more may have given it up."""
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(short("1.1"), short("2.1"), short("3.1"))
        await settle()
        if slept:
            bench.now += LATE
        else:
            autojump_clock.jump(LATE)
        await runner.say(Kill("1.1"), Withdraw("2.1"))
        assert (await runner.hear(Started)).id == "1.1"
        await answer(runner)
        assert (await runner.hear(Started)).id == "3.1"


async def test_an_input_that_waited_makes_its_spawn_as_old(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(short("1.1", stdin="pipe"), Stdin("1.1", b"in"))
        await settle()
        autojump_clock.jump(LATE)
        await runner.say(StdinEnd("1.1"))
        await answer(runner)
        assert (await runner.hear(Started)).id == "1.1"


async def test_what_was_asked_long_ago_is_not_remembered_for_ever(autojump_clock, bench):
    """However many questions are not answered: an answer to an old one proves nothing then."""
    bench.start()
    async with bench.network.ready() as runner:
        await trio.sleep(29)  # the runner is silent, just not for too long
        await runner.say(Pong(1), spawn("1.1", "sleep", detach_ms=25_000))
        asked = await heard(runner, Ping, Started)
        assert len(asked) > MAX_PINGS
        assert {type(each) for each in asked} == {Ping}
        await runner.say(Pong(asked[-1].n))
        assert (await runner.hear(Started)).id == "1.1"


async def test_a_clock_that_is_set_just_after_a_question_does_not_hold_a_spawn_for_ever(
    autojump_clock, bench
):
    """What was asked a moment ago proves nothing on the clock that is set since."""
    bench.start()
    async with bench.network.ready() as runner:
        await settle()
        await trio.sleep(3)
        await runner.say(short("1.1"))
        await runner.say(Pong((await runner.hear(Ping)).n))
        assert (await runner.hear(Started)).id == "1.1"
        bench.now += LATE
        await runner.say(short("2.1"))
        with trio.fail_after(1):  # and not with the next heartbeat, which the runner's may replace
            await answer(runner)
        assert (await runner.hear(Started)).id == "2.1"
