"""The real worker with a spool and a runner that acknowledges late, or a disk that has no room."""

import errno

import pytest
import trio

from remote_runner.protocol.messages import (
    Ack,
    Attempts,
    Close,
    Closed,
    Kill,
    OutputChunk,
    Ready,
    Refused,
    Resume,
    Stale,
    Started,
)
from remote_runner.types import Reason
from simple_worker.launch import SpawnFailure
from simple_worker.spool import PATIENCE
from simple_worker.spool_files import BATCH, SpoolFolder
from simple_worker.window import BLOCK, WINDOW
from simple_worker.worker import LOOK
from tests.worker.test_worker import hear_output, nothing, settle, sleeper, spawn, speaker

SIZE = 4 * WINDOW


def block(number):
    """A piece of output that is like no other."""
    return number.to_bytes(4, "big") * (BLOCK // 4)


OUTPUT = b"".join(map(block, range(SIZE // BLOCK)))


async def counted(child):
    """Writes `OUTPUT`, its blocks to both streams in turn."""
    for number in range(SIZE // BLOCK):
        await child.write(block(number), "stderr" if number % 3 else "stdout")
    return 3


async def flood_for_a_while(child):
    """Floods, and then a little less, so that virtual time goes on."""
    for _ in range(SIZE // BLOCK):
        await child.write(bytes(BLOCK))
    while True:
        await child.write(bytes(BLOCK))
        await trio.sleep(0.05)


@pytest.fixture
def spool(tmp_path, disk, bench):
    bench.processes.programs = {
        "counted": counted, "flood": flood_for_a_while,
        "sleep": sleeper, "speak": speaker, "true": nothing,
    }  # fmt: skip
    return SpoolFolder(tmp_path, 100 * WINDOW, bench.said.append)


# --- output ---


async def test_a_job_ends_though_nothing_is_acknowledged_and_its_output_comes_later(
    autojump_clock, bench, spool
):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "counted"))
        await hear_output(runner, WINDOW)
        await trio.sleep(5)
        assert spool.used > SIZE - WINDOW - 2 * BATCH
        bench.network.is_up = False
    await trio.sleep(60)
    bench.network.is_up = True
    async with bench.network.ready() as runner:
        assert runner.listed == (("1.1", "ended", SIZE),)
        await runner.say(Resume("1.1", 1000))
        received = OUTPUT[:1000]
        while len(received) < SIZE:
            chunk = await runner.hear((OutputChunk, Close))
            assert chunk.offset == len(received)
            number = chunk.offset // BLOCK
            assert chunk.stream == ("stderr" if number % 3 else "stdout")
            received += chunk.data
            await runner.say(Ack("1.1", len(received)))
        assert received == OUTPUT
        close = await runner.hear(Close)
        assert (close.code, close.offset) == (3, SIZE)
    assert spool.used == 0


async def test_an_outcome_behind_a_spool_is_repeated_until_it_is_closed(
    autojump_clock, bench, spool
):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "counted"))
        await runner.hear(Started)
        await trio.sleep(5)
    received = 0
    for _ in range(3):  # the first connection takes all of the output, the others only the end
        async with bench.network.welcome() as runner:
            await runner.hear(Attempts)
            await runner.say(Resume("1.1", received))
            while received < SIZE:
                chunk = await runner.hear(OutputChunk)
                assert chunk.data == OUTPUT[received : received + len(chunk.data)]
                assert chunk.offset == received
                received += len(chunk.data)
                await runner.say(Ack("1.1", received))
            assert (await runner.hear(Close)).offset == SIZE
    async with bench.network.welcome() as runner:
        await runner.say(Closed("1.1"))
        await settle()
    async with bench.network.ready() as runner:
        assert runner.listed == ()


async def test_an_end_behind_what_the_disk_does_not_give_back_counts_for_nothing(
    autojump_clock, bench, spool, disk
):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "counted"))
        await hear_output(runner, WINDOW)
        await trio.sleep(5)
        assert bench.processes.children[0].size == SIZE, "it has ended"
        disk.read_error = errno.EIO
        await runner.say(Ack("1.1", WINDOW // 2))
        close = await runner.hear(Close)
        assert (close.reason, close.code, close.signal) == ("abandoned", None, None)
        assert close.offset >= WINDOW
        disk.read_error = None
    async with bench.network.ready() as runner:
        assert runner.listed == (("1.1", "ended", close.offset),)
        await runner.say(Resume("1.1", WINDOW // 2))
        rest = await hear_output(runner, close.offset - WINDOW // 2, WINDOW // 2)
        assert rest == OUTPUT[WINDOW // 2 : close.offset]
        assert await runner.hear(Close) == close
        await runner.say(Closed("1.1"), spawn("2.1", "speak"))
        assert (await runner.hear(Close)).code == 7
    assert spool.used == 0
    [line] = [line for line in bench.said if "1.1" in line]
    assert line == "1.1 ends: its output cannot be read back: Input/output error"


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_job_whose_output_the_disk_does_not_give_back_is_ended(
    autojump_clock, bench, spool, disk, is_killed
):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "flood"))
        await hear_output(runner, WINDOW)
        await trio.sleep(5)
        if is_killed:
            await runner.say(Kill("1.1"))
            await settle()
        disk.read_error = errno.EIO
        await runner.say(Ack("1.1", WINDOW // 2))
        close = await runner.hear(Close)
        assert (close.reason, close.code) == ("abandoned", None)
    reasons = [reason for reason, _, _ in bench.processes.children[0].kills]
    assert reasons == [Reason.KILLED if is_killed else Reason.ABANDONED]


@pytest.mark.parametrize("last_word", [Stale, Closed])
async def test_what_nobody_wants_leaves_the_disk(autojump_clock, bench, spool, last_word):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "flood"))
        await runner.hear(Started)
        await trio.sleep(5)
        assert spool.used > 0
        await runner.say(last_word("1.1"))
        await settle()
        assert spool.used == 0
        for _ in range(3):  # what a flood goes on writing goes nowhere
            await trio.sleep(1)
            assert spool.used == 0


async def test_a_runner_that_is_only_slow_holds_the_job_back_and_nothing_is_on_disk(
    autojump_clock, bench, spool
):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "flood"))
        received = 0
        for _ in range(60):
            received += len((await runner.hear(OutputChunk)).data)
        for _ in range(100):
            await trio.sleep(PATIENCE * 0.8)
            chunk = await runner.hear(OutputChunk)
            received = chunk.offset + len(chunk.data)
            await runner.say(Ack("1.1", received - WINDOW // 2))
            assert spool.used == 0
        await runner.say(Kill("1.1"))
        close = await runner.hear(Close)
        assert close.offset - received <= WINDOW + BATCH


async def test_a_spool_at_its_limit_holds_the_job_back_and_goes_on_by_itself(
    autojump_clock, bench, spool
):
    spool.limit = WINDOW
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "counted"), spawn("2.1", "counted"))
        await trio.sleep(10)
        first, second = bench.processes.children
        assert first.size + second.size <= 3 * WINDOW + 2 * (BATCH + 2 * BLOCK)
        assert WINDOW / 2 < spool.used <= WINDOW
        assert any(f"--spool-limit, {WINDOW} bytes, is reached" in line for line in bench.said)
        received = {"1.1": b"", "2.1": b""}
        for _ in range(2):
            while True:
                message = await runner.hear((OutputChunk, Close))
                if isinstance(message, Close):
                    break
                assert message.offset == len(received[message.id])
                received[message.id] += message.data
                await runner.say(Ack(message.id, len(received[message.id])))
        assert received == {"1.1": OUTPUT, "2.1": OUTPUT}


async def test_a_disk_without_room_holds_the_job_back_and_goes_on_by_itself(
    autojump_clock, bench, spool, disk
):
    disk.error = errno.ENOSPC
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "counted"))
        await hear_output(runner, WINDOW)
        await trio.sleep(10)
        (child,) = bench.processes.children
        assert child.size <= WINDOW + BATCH + 2 * BLOCK
        assert "1.1 waits with its output: No space left on device" in bench.said
        disk.error = None
        await trio.sleep(5)
        assert child.size == SIZE
        await runner.say(Ack("1.1", WINDOW))
        received = WINDOW
        while received < SIZE:
            chunk = await runner.hear(OutputChunk)
            assert chunk.data == OUTPUT[received : received + len(chunk.data)]
            assert chunk.offset == received
            received += len(chunk.data)
            await runner.say(Ack("1.1", received))


# --- no room for new work ---


async def test_a_disk_that_is_nearly_full_gets_no_new_work_until_there_is_room(
    autojump_clock, bench, spool, disk
):
    bench.start(slots=2, spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "speak"), spawn("2.1", "sleep"))
        await runner.hear(Close)
        disk.free = 100 * 1024**2
        assert await runner.hear(Ready) == Ready(0)
        await runner.say(spawn("3.1", "true"))
        refused = await runner.hear(Refused)
        assert "is nearly full: 100 MiB are free (--min-free-disk)" in refused.reason
        assert await runner.hear(Ready) == Ready(0), "what was refused has not made room"
        await runner.say(Kill("2.1"))
        await runner.hear(Close)
        assert await runner.hear(Ready) == Ready(0), "nor has what ended"
        disk.free = 10**12
        assert await runner.hear(Ready) == Ready(2)
        await runner.say(spawn("4.1", "true"))
        assert (await runner.hear(Close)).id == "4.1"
    assert len([line for line in bench.said if "no new jobs for now" in line]) == 1


async def test_an_end_that_is_not_told_yet_takes_a_slot_for_the_runner(
    autojump_clock, bench, spool, disk
):
    bench.start(slots=2, spool=spool)
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "counted"))
        await hear_output(runner, WINDOW)
        await trio.sleep(1)
        assert bench.processes.children[0].size == SIZE, "it has ended"
        disk.free = 0
        assert await runner.hear(Ready) == Ready(0)
        disk.free = 10**12
        assert await runner.hear(Ready) == Ready(1), "its close comes later, and frees the other"


async def test_a_worker_that_comes_back_without_room_says_so(autojump_clock, bench, spool, disk):
    bench.start(spool=spool)
    async with bench.network.ready() as runner:
        disk.free = 0
        await runner.hear(Ready)
    async with bench.network.ready() as runner:
        assert runner.ready == Ready(0)
        assert await runner.hear(Ready) == Ready(0), "the first only ends the list"


async def test_a_machine_that_cannot_start_anything_is_asked_again_after_a_while(
    autojump_clock, bench
):
    bench.start(slots=2)
    failure = SpawnFailure(126, "true: Resource temporarily unavailable", is_refusal=True)
    bench.processes.start, start = lambda launch: failure, bench.processes.start
    async with bench.network.ready() as runner:
        began = trio.current_time()
        await runner.say(spawn("1.1", "true"), spawn("2.1", "true"))
        for attempt_id in ("1.1", "2.1"):
            assert await runner.hear(Refused) == Refused(attempt_id, failure.line)
        bench.processes.start = start
        while (ready := await runner.hear(Ready)) == Ready(0):
            pass
        assert ready == Ready(2)
        assert trio.current_time() - began <= LOOK + 0.1
        await runner.say(spawn("3.1", "true"))
        assert (await runner.hear(Close)).id == "3.1"


async def test_with_once_it_stays_while_it_lacks_room(autojump_clock, bench, spool, disk):
    disk.free = 0
    bench.start(once=True, spool=spool)
    async with bench.network.ready() as runner:
        await trio.sleep(20)
        assert not bench.left.is_set()
        disk.free = 10**12
        await runner.hear_end()
    await bench.left.wait()
