"""A full disk: nothing is lost, nothing is acknowledged that is not stored; it ends by itself."""

from collections import namedtuple

import apsw
import pytest
import trio

from queued_runner.disk_room import RESERVE, DiskRoom
from queued_runner.jobs import JobSpec
from queued_runner.store.base import NoRoom, StoreBroken, StoreFull
from queued_runner.store.commit import GroupCommit
from queued_runner.store.sqlite import CHECKPOINT, SQLiteStore
from tests.queue.conftest import inline
from tests.simdisk import SimDisk

MIB = 1 << 20


@pytest.fixture
def disk():
    return SimDisk(1)


@pytest.fixture
def store(disk, tmp_path):
    with disk.installed():
        opened = SQLiteStore(tmp_path / "queue.db")
        yield opened
        disk.capacity = disk.fault = None
        opened.close()


def add(command):
    return lambda store: store.add([JobSpec(command=command)], 0.0).ids[0]


def commands(store):
    return [job.spec.command for job in store.page()][::-1]


def test_a_transaction_that_finds_no_room_leaves_nothing(store, disk):
    disk.capacity = disk.size + 5000
    store.begin()
    add("x" * 100_000)(store)
    with pytest.raises(StoreFull, match=r"no room.*queue\.db"):
        store.commit()
    store.rollback()
    assert commands(store) == []
    disk.capacity = None
    store.begin()
    add("later")(store)
    store.commit()
    assert commands(store) == ["later"]


async def test_who_waits_is_refused_and_what_must_be_stored_is_tried_again(
    store, disk, nursery, autojump_clock
):
    commits = GroupCommit(store, inline)
    disk.capacity = disk.size
    done = []
    for command in ("a", "b", "c"):
        commits.submit(add(command), done.append)
    nursery.start_soon(commits.run)
    with pytest.raises(NoRoom):
        await commits.call(add("refused"))
    await trio.sleep(30)
    assert done == []
    assert commands(store) == []
    disk.capacity = None
    await commits.drain()
    assert [result.unwrap() for result in done] == [1, 2, 3]
    assert commands(store) == ["a", "b", "c"]


async def test_what_is_small_enough_need_not_wait_for_what_is_not(
    store, disk, nursery, autojump_clock
):
    commits = GroupCommit(store, inline)
    disk.capacity = disk.size + 60_000
    done = []
    for command in ("small", "too large" * 14_000):
        commits.submit(add(command), done.append)
    nursery.start_soon(commits.run)
    await trio.sleep(30)
    assert [result.unwrap() for result in done] == [1]
    disk.capacity = None
    await commits.drain()
    assert len(done) == 2


async def test_one_who_is_refused_beforehand_hurts_no_other(store, nursery, autojump_clock):
    def refuse(store):
        raise NoRoom("nearly full")

    commits = GroupCommit(store, inline)
    done = []
    commits.submit(add("a"), done.append)
    nursery.start_soon(commits.run)
    with pytest.raises(NoRoom):
        await commits.call(refuse)
    assert [result.unwrap() for result in done] == [1]


def test_a_full_disk_under_the_database_leaves_commits_in_the_log(store, disk):
    large = "x" * 4000
    for _ in range(2):
        store.begin()
        for _ in range(CHECKPOINT):
            add(large)(store)
        disk.fault = apsw.FullError
        disk.is_faulty = lambda operation, path: path.endswith(".db")
        store.commit()
    assert len(store.page(limit=9999)) == 2 * CHECKPOINT


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_an_error_of_the_disk_under_the_database_is_not_passed_over(store, disk, kind):
    """SQLite by itself would call that log written and use it again."""
    store.begin()
    for _ in range(CHECKPOINT):
        add("x" * 4000)(store)
    disk.fault = apsw.IOError
    disk.is_faulty = lambda operation, path: operation == kind and path.endswith(".db")
    with pytest.raises(StoreBroken, match="cannot be used"):
        store.commit()


Measured = namedtuple("Measured", "f_frsize f_blocks f_bavail")


class Measure:
    """A disk of `size` bytes, with `free` bytes free."""

    def __init__(self, size, free):
        self.size = size
        self.free = free

    def __call__(self, folder):
        return Measured(4096, self.size // 4096, self.free // 4096)


@pytest.mark.parametrize(
    ("size", "reserve"), [(1 << 40, RESERVE), (200 * MIB, 10 * MIB)], ids=["large", "small"]
)
def test_a_reserve_is_kept_and_the_refusal_says_how_much(tmp_path, size, reserve):
    measure = Measure(size, reserve)
    room = DiskRoom([tmp_path], measure)
    room.require()
    measure.free = reserve - MIB
    free, kept = f"{measure.free / MIB:.1f} MiB", f"{reserve / MIB:.1f} MiB"
    with pytest.raises(NoRoom, match=rf"nearly full: {free} are free at .*keeps {kept} for"):
        room.require()
    measure.free = reserve
    room.require()


def test_it_measures_the_disk_of_its_folder(tmp_path):
    DiskRoom([tmp_path]).require()


def test_a_disk_that_cannot_be_looked_at_is_waited_for(tmp_path):
    with pytest.raises(NoRoom, match=r"cannot be looked at \(No such file or directory\)"):
        DiskRoom([tmp_path, tmp_path / "unmounted"]).require()
