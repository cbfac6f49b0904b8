"""Output that one server writes and another one reads along: in files, told of or found later."""

import pytest
import trio

from queued_runner import log_files
from queued_runner.log_files import LogFolder
from queued_runner.logs import INLINE_LIMIT, Logs
from tests.buckets import MemoryBucket
from tests.queue.conftest import inline


@pytest.fixture(params=["folder", "bucket"])
def place(tmp_path, request, monkeypatch):
    if request.param == "folder":
        return LogFolder(tmp_path / "logs")
    pytest.importorskip("boto3", reason="boto3 is not installed (duplex-runner[s3])")
    from queued_runner import log_objects

    monkeypatch.setattr(log_objects, "PAUSE", log_files.SYNC_PAUSE)
    return log_objects.LogObjects(MemoryBucket())


@pytest.fixture
def owner(place):
    return Logs(place, run_sync=inline, now=trio.current_time)


class Elsewhere:
    """Another server on the same folder, that follows; what it is told, and what it got."""

    def __init__(self, place, nursery, pause=1000.0):
        self._logs = Logs(place, run_sync=inline)
        self._nursery = nursery
        self._pause = pause
        self._changed = trio.Event()
        self.is_over = False
        self.asked = 0
        self.got = []
        self.done = trio.Event()

    def tell(self, *which):
        self._changed.set()
        self._changed = trio.Event()

    async def follow(self, offset=0):
        async for record in self._logs.follow_files(
            1, 1, offset, change_of=lambda: self._changed, is_over=self._is_over,
            pause=self._pause,
        ):  # fmt: skip
            assert record.offset == offset
            offset += len(record.data)
            self.got.append(record.data)
        self.done.set()

    async def _is_over(self):
        self.asked += 1
        return self.is_over


def open_log(owner, offset=0, epoch=0):
    return owner.open(1, 1, offset, 1 << 40, lambda offset: None, epoch)


async def test_what_grows_is_read_at_once_when_it_is_told(owner, place, nursery, autojump_clock):
    nursery.start_soon(owner.run)
    log = open_log(owner)
    elsewhere = Elsewhere(place, nursery)
    owner.on_grown = elsewhere.tell
    nursery.start_soon(elsewhere.follow)
    log.append("stdout", b"little")
    await trio.sleep(1)
    assert elsewhere.got == []  # it is in memory, and nobody asked
    log.publish()
    await trio.sleep(1)
    assert elsewhere.got == [b"little"]
    log.append("stderr", b"more")
    await trio.sleep(1)
    assert elsewhere.got == [b"little", b"more"]
    log.append("stdout", b"the last")
    elsewhere.is_over = True
    await elsewhere.done.wait()
    assert elsewhere.got == [b"little", b"more", b"the last"]


async def test_one_that_is_told_nothing_looks_again(owner, place, nursery, autojump_clock):
    nursery.start_soon(owner.run)
    log = open_log(owner)
    elsewhere = Elsewhere(place, nursery, pause=5.0)
    nursery.start_soon(elsewhere.follow)
    log.publish()
    for text in (b"one", b"two"):
        log.append("stdout", text)
        await trio.sleep(6)
        assert elsewhere.got[-1] == text
    elsewhere.is_over = True
    await elsewhere.done.wait()
    assert elsewhere.got == [b"one", b"two"]


async def test_it_follows_from_an_offset_over_a_hand_over(owner, place, nursery, autojump_clock):
    nursery.start_soon(owner.run)
    elsewhere = Elsewhere(place, nursery)
    owner.on_grown = elsewhere.tell
    first = open_log(owner)
    first.publish()
    nursery.start_soon(elsewhere.follow, 3)
    first.append("stdout", b"one, two")
    await trio.sleep(1)
    offset = await owner.recover(1, 1, 1)
    second = open_log(owner, offset, 1)
    second.publish()
    first.append("stdout", b", three, four")  # it has not heard yet
    await trio.sleep(1)
    second.append("stdout", b", th")
    second.append("stdout", b"ree, four, five")
    await trio.sleep(1)
    elsewhere.is_over = True
    elsewhere.tell()
    await elsewhere.done.wait()
    assert b"".join(elsewhere.got) == b", two, three, four, five"


async def test_asking_for_what_is_in_files_already_is_answered(owner, nursery, autojump_clock):
    """Who asks may have looked just before they were written."""
    nursery.start_soon(owner.run)
    told = []
    owner.on_grown = lambda *which: told.append(which)
    log = open_log(owner)
    log.append("stdout", b"x" * (INLINE_LIMIT + 1))
    await trio.sleep(1)
    assert told == []
    log.publish()
    await trio.sleep(1)
    assert told == [(1, 1)]


async def test_each_sync_is_told_once(owner, nursery, autojump_clock):
    nursery.start_soon(owner.run)
    told = []
    owner.on_grown = lambda *which: told.append(which)
    log = open_log(owner)
    log.publish()
    for _ in range(100):
        log.append("stdout", b"x")
    await trio.sleep(1)
    assert told == [(1, 1)]


async def test_one_that_waits_costs_one_look_at_the_folder(
    owner, place, nursery, autojump_clock, monkeypatch
):
    nursery.start_soon(owner.run)
    log = open_log(owner)
    log.publish()
    log.append("stdout", b"x")
    elsewhere = Elsewhere(place, nursery)
    nursery.start_soon(elsewhere.follow)
    await trio.sleep(1)
    elsewhere.tell()
    await trio.sleep(1)
    looks = []
    if isinstance(place, LogFolder):
        listed = log_files._segments
        monkeypatch.setattr(log_files, "_segments", lambda path: looks.append(path) or listed(path))
    else:
        monkeypatch.setattr(place._bucket, "listed", looks)
    asked = elsewhere.asked
    for _ in range(3):
        elsewhere.tell()
        await trio.sleep(1)
    assert (len(looks), elsewhere.asked - asked) == (3, 3)
