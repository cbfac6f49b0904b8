"""The spool of one attempt against plain bytes: whatever is cut, acknowledged or full when."""

import errno
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from simple_worker.spool import PATIENCE, RETRY, Spool
from simple_worker.spool_files import BATCH, Frames, SpoolFolder, read_frames
from simple_worker.window import BLOCK, WINDOW
from tests.worker.simulation import SimulatedDisk

streams = st.sampled_from(["stdout", "stderr"])
shares = st.floats(0, 1)
lengths = st.integers(1, 40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), streams, st.lists(lengths, min_size=1, max_size=12)),
        st.tuples(st.just("write"), streams, st.lists(lengths, min_size=8, max_size=12)),
        st.tuples(st.just("send"), st.integers(1, 40), st.integers(1, 8)),
        st.tuples(st.just("ack"), shares, st.none()),
        st.tuples(st.just("resume"), shares, st.none()),
        st.tuples(st.just("wait"), st.sampled_from([0.01, PATIENCE, 3.0]), st.none()),
        st.tuples(st.just("unreadable"), st.sampled_from([None, errno.EIO]), st.none()),
        st.tuples(st.just("disk"), st.sampled_from([None, errno.ENOSPC, errno.EIO]), st.none()),
    ),
    min_size=5,
    max_size=60,
)
SMALL = {
    "simple_worker.window.WINDOW": 64,
    "simple_worker.window.BLOCK": 16,
    "simple_worker.window.BLOCK_COST": 0,
    "simple_worker.spool.BLOCK": 16,
    "simple_worker.spool.BATCH": 64,
    "simple_worker.spool_files.BLOCK": 16,
    "simple_worker.spool_files.BATCH": 64,
    "simple_worker.spool_files.SEGMENT": 128,
}


class Model:
    """A spool, what was written into it, and a runner that has received so much of it."""

    def __init__(self, spool, folder, disk):
        self.spool, self.folder, self.disk = spool, folder, disk
        self.written = []
        self.received = 0
        self.acked = 0

    async def write(self, stream, lengths):
        """Pieces of the stream, and one of the other: no two bytes near each other are equal."""
        other = "stderr" if stream == "stdout" else "stdout"
        for number, length in enumerate(lengths):
            with trio.move_on_after(1):
                await self.spool.wait_for_room()
            if self.spool.has_room:
                name = other if number == 3 else stream
                start = len(self.written)
                data = bytes(byte % 251 for byte in range(start, start + length))
                self.spool.add(name, data)
                if self.spool.is_cut:
                    return
                self.written += [(name, byte) for byte in data]

    async def send(self, limit, times=1):
        for _ in range(times):
            output = self.spool.next(limit)
            if output is None:
                return
            assert 1 <= len(output.data) <= limit
            assert output.offset == self.received
            self.received += len(output.data)
            sent = [(output.stream, byte) for byte in output.data]
            assert sent == self.written[output.offset : self.received]

    async def ack(self, share, _=None):
        self.acked += int(share * (self.received - self.acked))
        self.spool.ack(self.acked)

    async def resume(self, share, _=None):
        self.received = self.acked + int(share * (self.received - self.acked))
        self.spool.resume(self.received)

    async def wait(self, seconds, _=None):
        await trio.sleep(seconds)

    async def break_disk(self, error, _=None):
        self.disk.error = error

    async def break_reading(self, error, _=None):
        self.disk.read_error = error

    def see_cut(self):
        """Of what is lost nothing has been given out, and nothing will be."""
        if self.spool.is_cut:
            assert self.spool.has_room, "its child is not held up"
            assert self.received <= self.spool.size <= len(self.written)
            del self.written[self.spool.size :]

    async def play(self, script):
        acts = {
            "write": self.write, "send": self.send, "ack": self.ack, "resume": self.resume,
            "wait": self.wait, "disk": self.break_disk, "unreadable": self.break_reading,
        }  # fmt: skip
        for name, first, second in script:
            await acts[name](first, second)
            self.see_cut()
            assert self.spool.size == len(self.written)
            assert self.spool.is_all_given == (self.received == len(self.written))
            assert self.folder.used <= self.folder.limit

    async def heal(self):
        """The disk has room, the runner is there: all must come."""
        self.disk.error = self.disk.read_error = None
        with trio.fail_after(60):
            while not self.spool.is_all_given or self.acked < len(self.written):
                await self.send(50, 50)
                await self.ack(1.0)
                await trio.sleep(RETRY)
                self.see_cut()
        assert self.received == len(self.written)


async def play(script, path, limit):
    with ExitStack() as patches:
        disk = SimulatedDisk()
        for name, value in {
            **SMALL,
            "simple_worker.spool_files.os": disk,
            "simple_worker.spool_files.SpoolFolder.in_thread": disk.in_thread,
        }.items():
            patches.enter_context(mock.patch(name, value))
        folder = SpoolFolder(path, limit, lambda line: None)
        async with trio.open_nursery() as nursery:
            spool = Spool("1.1", folder, nursery.start_soon, lambda: None)
            model = Model(spool, folder, disk)
            await model.play(script)
            await model.heal()
            # The nursery ends by itself: no task is left.
        assert folder.used == 0
        return disk.writes, spool.is_cut


# A write that fails half-way leaves bytes behind the others, which are written over.
HALF_WRITTEN = [
    ("write", "stdout", [40] * 3),
    ("wait", 3.0, None),
    ("disk", errno.ENOSPC, None),
    ("write", "stdout", [10]),
    ("wait", 3.0, None),
    ("disk", None, None),
]


@given(steps, st.sampled_from([100, 300, 10_000]))
@example(HALF_WRITTEN, 10_000)
def test_every_byte_comes_once_and_in_order(tmp_path_factory, script, limit):
    path = tmp_path_factory.getbasetemp()
    trio.run(play, script, path, limit, clock=MockClock(autojump_threshold=0))


def test_the_model_does_write_to_disk(tmp_path):
    script = [("write", "stdout", [40] * 8)] * 4
    clock = MockClock(autojump_threshold=0)
    assert trio.run(play, script, tmp_path, 10_000, clock=clock) > (3, False)


def test_the_model_does_lose_what_the_disk_does_not_give_back(tmp_path):
    script = [("write", "stdout", [40] * 8)] * 4 + [("unreadable", errno.EIO, None)]
    script += [("send", 40, 8), ("ack", 1.0, None), ("wait", 1.0, None), ("resume", 0.5, None)]
    clock = MockClock(autojump_threshold=0)
    _, is_cut = trio.run(play, script, tmp_path, 10_000, clock=clock)
    assert is_cut


@given(st.lists(st.tuples(streams, st.binary(min_size=1, max_size=40)), max_size=20))
def test_frames_are_read_as_they_were_written(pieces):
    frames = Frames()
    for number, (stream, data) in enumerate(pieces):
        frames.add(stream, data)
        if number % 7 == 0:
            frames.seal()
    data = frames.seal()
    read, size = read_frames(data)
    assert size == len(data) == len(frames)
    flat = [(stream, byte) for stream, data in pieces for byte in data]
    assert [(stream, byte) for stream, data in read for byte in data] == flat
    for cut in range(len(data)):
        some, size = read_frames(data[:cut])
        assert some == read[: len(some)]
        assert size <= cut


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_what_no_frames_have_made_is_read_as_nothing(output, rubbish):
    frames = Frames()
    frames.add("stderr", output or b"x")
    data = frames.seal()
    pieces, size = read_frames(data + rubbish)
    assert pieces[0] == ("stderr", output or b"x")
    assert len(data) <= size <= len(data + rubbish)
    assert read_frames(b"\x02" + rubbish) == ([], 0)
    assert read_frames(bytes(200)) == ([], 0), "a hole in a file"


def test_single_bytes_cost_little_on_disk():
    frames = Frames()
    for _ in range(1000):
        frames.add("stdout", b"x")
    assert len(frames) < 1010


async def test_two_streams_at_once_through_real_threads(tmp_path):
    """Both pumps write while the disk is written and read, and the runner acknowledges."""
    folder = SpoolFolder(tmp_path, 16 * WINDOW, lambda line: None)
    total, written, received = 6 * WINDOW, bytearray(), bytearray()
    on_disk = 0

    async def pump(stream, byte):
        while len(written) < total:
            data = bytes([byte]) * (1 + len(written) * 7919 % BLOCK)
            spool.add(stream, data)
            written.extend(data)
            if not spool.has_room:
                await spool.wait_for_room()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        spool = Spool("1.1", folder, nursery.start_soon, lambda: None)
        async with trio.open_nursery() as pumps:
            pumps.start_soon(pump, "stdout", 1)
            pumps.start_soon(pump, "stderr", 2)
        on_disk = folder.used
        with trio.fail_after(30):
            while len(received) < len(written):
                output = spool.next(BLOCK)
                if output is None:
                    await trio.sleep(0.001)
                    continue
                assert output.data == bytes([1 if output.stream == "stdout" else 2]) * len(
                    output.data
                )
                received += output.data
                spool.ack(len(received))
        assert spool.is_all_given
    assert received == written
    assert on_disk > total - WINDOW - 4 * BATCH
    assert folder.used == 0
    assert list(Path(tmp_path).iterdir()) == []


async def test_the_event_loop_goes_on_while_the_disk_hangs(tmp_path, monkeypatch):
    hangs, goes_on = threading.Event(), threading.Event()
    real = os.pwrite

    def hang(*args):
        hangs.set()
        goes_on.wait(30)
        return real(*args)

    monkeypatch.setattr("simple_worker.spool_files.os.pwrite", hang)
    folder = SpoolFolder(tmp_path, WINDOW, lambda line: None)
    async with trio.open_nursery() as nursery:
        spool = Spool("1.1", folder, nursery.start_soon, lambda: None)
        while spool.has_room:
            spool.add("stdout", bytes(BLOCK))
        await spool.wait_for_room()
        spool.add("stdout", b"end")
        with trio.fail_after(30):
            while not hangs.is_set():
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
        goes_on.set()
    assert folder.used == 0


async def test_a_disk_that_is_full_bounds_what_is_in_memory(autojump_clock, tmp_path, disk):
    disk.error = errno.ENOSPC
    said = []
    folder = SpoolFolder(tmp_path, 100 * WINDOW, said.append)
    async with trio.open_nursery() as nursery:
        spool = Spool("1.1", folder, nursery.start_soon, lambda: None)
        with trio.move_on_after(600):
            while True:
                spool.add("stdout", bytes(BLOCK))
                await spool.wait_for_room()
                await trio.sleep(0.01)
        assert WINDOW < spool.size <= WINDOW + BATCH + 2 * BLOCK
        assert folder.used == 0
        assert set(said) == {"1.1 waits with its output: No space left on device"}
        assert len(said) == 10
        disk.error = None
        with trio.fail_after(RETRY):
            await spool.wait_for_room()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("folder_is_given", [True, False])
async def test_without_a_disk_a_full_window_waits_for_the_runner(
    autojump_clock, tmp_path, folder_is_given
):
    folder = SpoolFolder(tmp_path, 0, lambda line: None) if folder_is_given else None
    spool = Spool("1.1", folder, pytest.fail, lambda: None)
    while spool.has_room:
        spool.add("stdout", bytes(BLOCK))
    with trio.move_on_after(1000) as waiting:
        await spool.wait_for_room()
    assert waiting.cancelled_caught
    spool.next(BLOCK)
    spool.ack(BLOCK)
    await spool.wait_for_room()
