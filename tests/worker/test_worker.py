"""The real worker against a scripted runner: what it says when, what it runs, how it comes back."""

from contextlib import asynccontextmanager

import pytest
import trio

from remote_runner.protocol.messages import (
    Ack,
    Attempts,
    Close,
    Closed,
    Drain,
    Draining,
    Goodbye,
    Hello,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Refused,
    Resume,
    Spawn,
    SpawnOptions,
    Stale,
    Started,
    Stdin,
    StdinEnd,
)
from remote_runner.types import Reason
from simple_worker.waiting import MAX_STDIN
from simple_worker.window import WINDOW
from simple_worker.worker import PARTING, REMIND


def spawn(attempt_id, command, **options):
    return Spawn(command, ("-x",), SpawnOptions(id=attempt_id, **options))


async def settle():
    await trio.testing.wait_all_tasks_blocked()


async def hear_output(runner, size, start=0):
    """The next `size` bytes of output, which begin at `start` and have no gap and no overlap."""
    data = b""
    while len(data) < size:
        chunk = await runner.hear(OutputChunk)
        assert chunk.offset == start + len(data)
        data += chunk.data
    return data


async def sleeper(child):
    await trio.sleep_forever()


async def chatter(child):
    """Writes ten bytes every minute."""
    while True:
        await child.write(b"0123456789")
        await trio.sleep(60)


async def flood(child):
    while True:
        await child.write(bytes(65536))


async def speaker(child):
    await child.write(b"out")
    await child.write(b"err", "stderr")
    return 7


async def nothing(child):
    return 0


@pytest.fixture
def bench(bench):
    bench.processes.programs = {
        "sleep": sleeper, "chat": chatter, "flood": flood, "speak": speaker, "true": nothing
    }  # fmt: skip
    return bench


# --- one attempt ---


async def test_an_attempt_from_spawn_to_closed(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        assert runner.hello == Hello(
            (1, 1), "w-1", "b-1", "name", 2, {"os": "linux"}, "0.1.0", None, ("mask", "ahead"), 1
        )
        assert runner.ready.free_slots == 2
        await runner.say(
            spawn("7.1", "speak", cwd="/src", set_env={"A": "b"}, timeout_ms=1500, uid=5)
        )
        assert await runner.hear(Started) == Started("7.1", 100, 1_234_500)
        assert await runner.hear(OutputChunk) == OutputChunk("stdout", b"out", "7.1", 0)
        assert await runner.hear(OutputChunk) == OutputChunk("stderr", b"err", "7.1", 3)
        assert await runner.hear(Close) == Close(7, "7.1", reason="exit", offset=6)
        launch = bench.processes.children[0].launch
        command = launch.command
        assert (command.command, command.args, command.cwd) == ("speak", ("-x",), "/src")
        assert (command.env, command.timeout, launch.uid) == ({"A": "b"}, 1.5, 5)
        assert launch.extra_env["JOB_WORKER"] == "name"
        await runner.say(Closed("7.1"), Drain())
        await runner.hear(Draining)
        await bench.left.wait()


async def test_output_beyond_the_limit_is_counted_and_not_sent(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "speak", max_output=4))
        assert await runner.hear(OutputChunk) == OutputChunk("stdout", b"out", "1.1", 0)
        assert await runner.hear(OutputChunk) == OutputChunk("stderr", b"e", "1.1", 3)
        assert await runner.hear(Close) == Close(7, "1.1", reason="exit", offset=6)


async def test_what_cannot_be_started_is_a_line_and_a_status(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "no-such"))
        line = b"duplex-runner: no-such: command not found on this worker\n"
        assert await hear_output(runner, len(line)) == line
        close = await runner.hear(Close)
        assert (close.code, close.reason, close.offset) == (127, "spawn-error", len(line))


async def test_a_kill_right_behind_its_spawn_is_not_lost(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.emitter.stream.send_all(
            b"".join(
                runner.emitter.wire.send(message)
                for message in (spawn("1.1", "sleep"), Kill("1.1", "SIGINT", 500))
            )
        )
        close = await runner.hear(Close)
        assert (close.signal, close.reason) == ("SIGINT", "killed")
        assert bench.processes.children[0].kills == [(Reason.KILLED, "SIGINT", 0.5)]


async def test_input_is_gathered_before_the_start(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "true", stdin="pipe"))
        await runner.say(Stdin("1.1", b"in"), Stdin("1.1", b"put"))
        await settle()
        assert bench.processes.children == []
        await runner.say(StdinEnd("1.1"))
        await runner.hear(Close)
        assert bench.processes.children[0].launch.command.stdin == b"input"


async def test_an_attempt_that_waits_for_input_can_be_killed(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "true", stdin="pipe"), Kill("1.1"))
        assert (await runner.hear(Close)).reason == "killed"
        assert bench.processes.children == []


async def test_too_much_input_is_refused(autojump_clock, bench):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "true", stdin="pipe"))
        for _ in range(MAX_STDIN // 500_000 + 1):
            await runner.say(Stdin("1.1", bytes(500_000)))
        assert (await runner.hear(Refused)).id == "1.1"
        await runner.say(spawn("2.1", "true"))
        assert (await runner.hear(Close)).id == "2.1"


async def test_attempts_that_have_much_to_say_take_turns(autojump_clock, bench):
    bench.start(slots=2)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "flood"), spawn("2.1", "flood"))
        speakers = [(await runner.hear(OutputChunk)).id for _ in range(WINDOW // 65536)]
        # One may have begun before the other was there: a MiB is on its way then.
        assert min(speakers.count("1.1"), speakers.count("2.1")) >= 20


# --- the connection ---


async def test_after_a_cut_it_goes_on_from_the_resumed_byte_and_not_before(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "chat"))
        assert await hear_output(runner, 10) == b"0123456789"
        bench.network.is_up = False
    await trio.sleep(90)
    bench.network.is_up = True
    async with bench.network.ready() as runner:
        assert runner.listed == (("1.1", "running", 20),)
        for _ in range(4):  # it writes meanwhile
            await trio.sleep(10)
            await runner.say(Ping(1))
        await runner.say(Resume("1.1", 4))
        assert await hear_output(runner, 26, 4) == b"4567890123456789" + b"0123456789"


async def test_an_outcome_is_repeated_until_it_is_closed(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "speak"))
        first = await runner.hear(Close)
    for _ in range(2):
        async with bench.network.welcome() as runner:
            assert (await runner.hear(Attempts)).items == (("1.1", "ended", 6),)
            await runner.say(Resume("1.1", 6))
            assert await runner.hear(Close) == first
    async with bench.network.welcome() as runner:
        await runner.say(Closed("1.1"))
    async with bench.network.ready() as runner:
        assert runner.listed == ()


async def test_many_attempts_are_listed_in_parts(autojump_clock, bench):
    bench.start(slots=300)
    async with bench.network.ready() as runner:
        await runner.say(*(spawn(f"{n}.1", "sleep") for n in range(300)))
        for _ in range(300):
            await runner.hear(Started)
    async with bench.network.welcome() as runner:
        listed = [len((await runner.hear(Attempts)).items) for _ in range(2)]
        assert listed == [256, 44]


async def test_input_that_was_cut_off_never_starts(autojump_clock, bench):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "true", stdin="pipe"), Stdin("1.1", b"in"))
        await settle()
    async with bench.network.ready() as runner:
        assert runner.ready.free_slots == 1
        assert runner.listed == ()
        await runner.say(StdinEnd("1.1"))
        await settle()
        assert bench.processes.children == []


async def test_a_stale_attempt_is_killed_and_never_spoken_of(autojump_clock, bench):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "chat"))
        await hear_output(runner, 10)
        await runner.say(Stale("1.1"))
        await settle()
        assert bench.processes.children[0].kills == [(Reason.ABANDONED, None, None)]
        await runner.say(spawn("2.1", "true"))
        assert (await runner.hear(Close)).id == "2.1"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x92\xa4pong\xa1x", b"\x91" * 40, b"\xc1"]
)
@pytest.mark.parametrize("is_welcome", [True, False])
async def test_it_comes_back_from_a_peer_that_speaks_garbage(
    autojump_clock, bench, garbage, is_welcome
):
    bench.start()
    if is_welcome:
        async with bench.network.ready() as runner:
            await runner.emitter.stream.send_all(garbage)
            await runner.hear_end()
    else:
        await (await bench.network.answer()).stream.send_all(garbage)
    async with bench.network.ready():
        pass
    assert "no runner that this worker understands" in "\n".join(bench.said)


async def test_it_leaves_a_peer_that_never_welcomes_it(autojump_clock, bench):
    bench.start()
    await bench.network.answer()
    async with bench.network.ready():
        assert 10 <= trio.current_time() <= 12


async def test_a_refusal_is_shown_and_its_time_is_kept(autojump_clock, bench):
    bench.start()
    async with (await bench.network.answer()).peer() as runner:
        await runner.hear(Hello)
        await runner.say(Goodbye("unauthorized", "the token is wrong", 60_000))
    async with bench.network.ready():
        assert 60 <= trio.current_time() <= 75
    assert any("the token is wrong" in line for line in bench.said)


async def test_who_is_refused_for_another_with_its_id_ends_what_it_runs_at_once(
    autojump_clock, bench
):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    async with (await bench.network.answer()).peer() as runner:
        await runner.hear(Hello)
        await runner.say(Goodbye("duplicate", "two live workers present the same id", 10_000))
        await runner.hear_end()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.processes.children[0].kills == [(Reason.ABANDONED, "SIGKILL", 0.0)]
    async with bench.network.welcome() as runner:
        assert (await runner.hear(Attempts)).items[0][:2] == ("1.1", "ended")


async def test_a_goodbye_in_the_middle_of_output_is_only_a_cut(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "flood"))
        await hear_output(runner, 1)
        await runner.say(Ping(1), Goodbye("shutdown", "the server is stopping", 5000))
        await runner.hear_end()
        assert trio.current_time() < 1
    began = trio.current_time()
    async with bench.network.welcome() as runner:
        assert 5 <= trio.current_time() - began <= 7.5
        assert (await runner.hear(Attempts)).items[0][:2] == ("1.1", "running")


async def test_nobody_there_is_tried_again_and_again(autojump_clock, bench):
    bench.network.is_up = False
    bench.start()
    await trio.sleep(60)
    bench.network.is_up = True
    async with bench.network.ready():
        assert trio.current_time() < 90
    assert any("the network is down" in line for line in bench.said)


# --- silence ---


@asynccontextmanager
async def full_window(bench):
    """A runner to which an attempt has sent all that may be unacknowledged."""
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "flood"))
        heard = 0
        while heard <= WINDOW - 2 * 65536:
            heard += len((await runner.hear(OutputChunk)).data)
        yield runner


async def test_a_full_window_stops_the_child_and_not_the_heartbeat(autojump_clock, bench):
    async with full_window(bench) as runner:
        await settle()
        size = bench.processes.children[0].size
        for _ in range(5):
            await runner.say(Pong((await runner.hear(Ping)).n))
        assert bench.processes.children[0].size == size <= WINDOW + 65536
        await runner.say(Ack("1.1", 1_000_000))
        await hear_output(runner, 900_000, size)


async def test_a_silent_runner_is_asked_and_then_left(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.hear(Ping)
        assert 10 <= trio.current_time() <= 13
        await runner.hear_end()
        assert 30 <= trio.current_time() <= 34


async def test_pings_are_answered(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(Ping(5))
        assert await runner.hear(Pong) == Pong(5)


async def test_without_contact_it_stops_its_attempts_before_they_are_given_up(
    autojump_clock, bench
):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
        bench.network.is_up = False
    await trio.sleep(107)
    child = bench.processes.children[0]
    assert child.kills == []
    await trio.sleep(2)
    [(reason, _, grace)] = child.kills
    assert reason is Reason.ABANDONED
    assert 109 + grace < 120
    bench.network.is_up = True
    async with bench.network.welcome() as runner:
        assert (await runner.hear(Attempts)).items == (("1.1", "ended", 0),)
        await runner.say(Resume("1.1", 0))
        assert (await runner.hear(Close)).reason == "abandoned"


async def test_an_attempt_with_a_detach_of_its_own_is_stopped_by_that(autojump_clock, bench):
    bench.start(slots=3)
    async with bench.network.ready() as runner:
        await runner.say(
            spawn("1.1", "sleep", detach_ms=10_000),
            spawn("2.1", "sleep"),
            spawn("3.1", "sleep", detach_ms=1_000_000),
        )
        for _ in range(3):
            await runner.hear(Started)
        bench.network.is_up = False
    short, usual, long = bench.processes.children
    await trio.sleep(8.9)
    assert short.kills == []
    await trio.sleep(0.2)
    [(reason, _, grace)] = short.kills
    assert reason is Reason.ABANDONED
    assert 9.1 + grace < 10
    await trio.sleep(98)
    assert usual.kills == []
    await trio.sleep(2)
    assert [reason for reason, _, _ in usual.kills] == [Reason.ABANDONED]
    await trio.sleep(500)
    assert long.kills == []


async def test_a_short_detach_outlives_a_healthy_silence(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await trio.sleep(5)  # in the middle between two looks at the heartbeat
        await runner.say(spawn("1.1", "sleep", detach_ms=1000))
        while trio.current_time() < 60:
            await runner.say(Pong((await runner.hear(Ping)).n))
        assert bench.processes.children[0].kills == []


async def test_a_half_open_connection_is_no_contact(autojump_clock, bench):
    bench.start()
    async with bench.network.ready(detach_ms=20_000) as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
        await trio.sleep(19)
        assert [reason for reason, _, _ in bench.processes.children[0].kills] == [Reason.ABANDONED]


async def test_a_healthy_silence_stops_nothing(autojump_clock, bench):
    bench.start()
    async with bench.network.ready(detach_ms=8_000) as runner:
        await runner.say(spawn("1.1", "sleep"))
        while trio.current_time() < 60:
            await runner.say(Pong((await runner.hear(Ping)).n))
        assert bench.processes.children[0].kills == []


async def test_the_reaper_is_told_of_the_last_contact_while_something_runs(autojump_clock, bench):
    bench.start()
    told = bench.processes.told_contact
    async with bench.network.ready() as runner:
        await trio.sleep(25)
        assert told == []
        await runner.say(spawn("1.1", "sleep", detach_ms=20_000))
        while isinstance(message := await runner.hear((Ping, Started)), Ping):
            await runner.say(Pong(message.n))
        await runner.say(Pong((await runner.hear(Ping)).n))
        assert told
        begun, contact = len(told), trio.current_time()
        await trio.sleep(3)
        assert 2 <= len(told) - begun <= 4, "a twentieth of its detach is one second"
        assert told[-1] == pytest.approx(trio.current_time() - contact, abs=1.1)
        await runner.say(Kill("1.1"))
        await runner.hear(Close)
        told.clear()
        await trio.sleep(5)
        assert told == []
    launch = bench.processes.children[0].launch
    assert launch.detach == 20


# --- leaving ---


async def test_a_draining_worker_finishes_and_leaves(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "speak"))
        await runner.hear(Close)
        bench.worker.drain()
        await runner.hear(Draining)
        await runner.say(spawn("2.1", "true"))
        assert await runner.hear(Refused) == Refused("2.1", "draining")
        await settle()
        assert not bench.left.is_set()
        await runner.say(Closed("1.1"))
        await runner.hear_end()
    await bench.left.wait()


async def test_a_spawn_that_crosses_draining_is_refused_before_it_leaves(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        bench.worker.drain()
        await runner.say(spawn("1.1", "true"), Pong((await runner.hear(Ping)).n))
        assert await runner.hear(Refused) == Refused("1.1", "draining")
    await bench.left.wait()


async def test_a_draining_worker_says_so_again_after_a_cut(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "speak"))
        await runner.hear(Close)
        bench.worker.drain()
        await runner.hear(Draining)
    async with bench.network.ready() as runner:
        await runner.hear(Draining)
        await runner.say(Closed("1.1"))
    await bench.left.wait()


async def test_a_draining_worker_says_what_it_waits_for_when_that_changes(autojump_clock, bench):
    bench.start(slots=3)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep"), spawn("2.1", "sleep"), spawn("3.1", "speak"))
        await runner.hear(Close)
        bench.said.clear()
        bench.worker.drain()
        await trio.sleep(REMIND / 2)
        await runner.say(Kill("1.1"), Kill("2.1"), Closed("3.1"))
        await trio.sleep(20)
        assert bench.said == [
            "waiting for 2 running jobs and 1 end that the runner has not confirmed",
            "waiting for 2 ends that the runner has not confirmed",
        ]
        await runner.say(Closed("1.1"), Closed("2.1"))
        await runner.hear_end()
    await bench.left.wait()
    assert "" not in bench.said


async def test_a_stopped_worker_leaves_when_the_runner_knows_what_became_of_its_attempts(
    autojump_clock, bench
):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "chat"), spawn("2.1", "true", stdin="pipe"))
        await hear_output(runner, 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.worker.stop)
            assert (await runner.hear(Refused)).id == "2.1"
            close = await runner.hear(Close)
            assert (close.id, close.reason, close.offset) == ("1.1", "abandoned", 10)
            await trio.sleep(PARTING / 2)
            assert not bench.left.is_set()
            await runner.say(Closed("1.1"))
            await runner.hear_end()
    await bench.left.wait()
    assert bench.processes.children[0].kills == [(Reason.ABANDONED, "SIGKILL", 0.0)]


async def test_a_stopped_worker_does_not_wait_long_for_a_runner_that_says_nothing(
    autojump_clock, bench
):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
        began = trio.current_time()
        await bench.worker.stop()
        await bench.left.wait()
        assert trio.current_time() - began <= PARTING


async def test_a_stopped_worker_without_a_connection_waits_for_nothing(autojump_clock, bench):
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
        bench.network.is_up = False
    await settle()
    began = trio.current_time()
    await bench.worker.stop()
    await bench.left.wait()
    assert trio.current_time() == began


async def test_an_idle_worker_without_a_runner_drains_at_once(autojump_clock, bench):
    bench.network.is_up = False
    bench.start()
    await settle()
    bench.worker.drain()
    await bench.left.wait()


async def test_once_leaves_when_there_is_nothing_more_to_do(autojump_clock, bench):
    bench.start(slots=1, once=True)
    async with bench.network.ready() as runner:
        for number in range(3):
            await runner.say(spawn(f"{number}.1", "speak"))
            await runner.hear(Close)
            await trio.sleep(20)
            await runner.say(Closed(f"{number}.1"))
            await trio.sleep(0.5)
            assert not bench.left.is_set()
        await runner.hear(Draining)
        await runner.hear_end()
    await bench.left.wait()


async def test_once_leaves_a_runner_that_has_nothing_at_all(autojump_clock, bench):
    bench.start(once=True)
    async with bench.network.ready() as runner:
        await runner.hear(Draining)
        await runner.hear_end()
    await bench.left.wait()


async def test_a_welcome_with_senseless_figures_harms_nothing(autojump_clock, bench):
    bench.start()
    async with bench.network.ready(heartbeat_ms=0, detach_ms=10**9, max_chunk=0) as runner:
        await runner.say(spawn("1.1", "speak"))
        assert await hear_output(runner, 6) == b"outerr"
