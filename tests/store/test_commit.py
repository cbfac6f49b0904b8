"""`GroupCommit`: what goes into one commit, and who is told when. Real stores, no sleeps."""

import pytest
import trio

from queued_runner.jobs import JobSpec
from queued_runner.store.base import (
    Deposed,
    InDoubt,
    JobNotFound,
    StoreAway,
    StoreBroken,
    TryAgain,
)
from queued_runner.store.commit import LONGEST_PAUSE, TRIES, GroupCommit
from queued_runner.store.sqlite import MEMORY, SQLiteStore
from remote_runner.types import Offer, Slot


class Disk:
    """Runs each commit when the test says so, as a slow disk does."""

    def __init__(self):
        self.waiting = []
        self._begun = trio.lowlevel.ParkingLot()

    async def run_sync(self, function):
        may_run = trio.Event()
        self.waiting.append(may_run)
        self._begun.unpark_all()
        await may_run.wait()
        return function()

    async def wait_for_commit(self):
        while not self.waiting:
            await self._begun.park()

    async def let_one_through(self):
        await self.wait_for_commit()
        self.waiting.pop(0).set()


class CountingStore(SQLiteStore):
    """A real store that counts its commits, and breaks when told."""

    commits = 0
    breaks = False

    def commit(self):
        if self.breaks:
            raise StoreBroken("the disk is gone")
        super().commit()
        self.commits += 1


@pytest.fixture
def store():
    opened = CountingStore(MEMORY)
    yield opened
    opened.close()


def add(command):
    return lambda store: store.add([JobSpec(command=command)], 0.0).ids[0]


async def test_all_that_arrives_during_a_commit_goes_into_the_next(store, nursery):
    disk = Disk()
    commits = GroupCommit(store, disk.run_sync)
    nursery.start_soon(commits.run)
    results = {}

    async def call(name):
        results[name] = await commits.call(add(name))

    nursery.start_soon(call, "first")
    await disk.wait_for_commit()
    for number in range(50):
        nursery.start_soon(call, str(number))
    await trio.testing.wait_all_tasks_blocked()
    assert results == {}
    await disk.let_one_through()
    await trio.testing.wait_all_tasks_blocked()
    assert (set(results), store.commits) == ({"first"}, 1)
    await disk.let_one_through()
    await trio.testing.wait_all_tasks_blocked()
    assert (len(results), store.commits) == (51, 2)


async def test_one_that_is_refused_hurts_no_other_of_its_batch(store, nursery):
    commits = GroupCommit(store)
    done = []
    commits.submit(add("a"), done.append)
    commits.submit(lambda store: store.get(77), done.append)
    commits.submit(add("b"), done.append)
    nursery.start_soon(commits.run)
    await commits.drain()
    with pytest.raises(JobNotFound):
        done[1].unwrap()
    assert [store.get(done[i].unwrap()).spec.command for i in (0, 2)] == ["a", "b"]


async def test_nothing_is_acknowledged_by_a_commit_that_failed(store, nursery):
    commits = GroupCommit(store)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreBroken, match="the disk is gone")):
        async with trio.open_nursery() as inner:
            store.breaks = True
            done = []
            for name in ("a", "b"):
                commits.submit(add(name), done.append)
            inner.start_soon(commits.run)
    for result in done:
        with pytest.raises(StoreBroken):
            result.unwrap()
    store.breaks = False
    assert store.page() == []
    with pytest.raises(StoreBroken, match="closed after a disk error"):
        await commits.call(add("later"))
    await commits.drain()


async def test_one_who_stops_waiting_does_not_stop_the_commit(store, nursery):
    disk = Disk()
    commits = GroupCommit(store, disk.run_sync)
    nursery.start_soon(commits.run)
    async with trio.open_nursery() as impatient:
        impatient.start_soon(commits.call, add("kept"))
        await disk.wait_for_commit()
        impatient.cancel_scope.cancel()
    await disk.let_one_through()
    nursery.start_soon(disk.let_one_through)
    await commits.drain()
    assert [job.spec.command for job in store.page()] == ["kept"]


async def test_a_cancelled_writer_first_ends_what_it_has_begun(store):
    disk = Disk()
    commits = GroupCommit(store, disk.run_sync)
    done = []
    async with trio.open_nursery() as writer:
        writer.start_soon(commits.run)
        commits.submit(add("kept"), done.append)
        await disk.wait_for_commit()
        writer.cancel_scope.cancel()
        await disk.let_one_through()
    assert done[0].unwrap() == 1
    assert store.commits == 1


async def test_what_joins_a_batch_as_it_is_formed_sees_what_is_in_it(store, nursery):
    commits = GroupCommit(store)
    wanted, claimed = [], []
    offers = [Offer({}, (Slot("w", "w-1", "b"),))]

    def join():
        while wanted:
            commits.submit(wanted.pop(), claimed.append)

    commits.before_batch = join
    nursery.start_soon(commits.run)
    await trio.testing.wait_all_tasks_blocked()
    wanted.append(lambda store: store.claim(offers, 1.0, 9))
    job_id = await commits.call(add("x"))
    assert store.commits == 1
    assert [job.id for job in claimed[0].unwrap()] == [job_id]


async def test_a_nudge_asks_what_wants_to_join(store, nursery):
    commits = GroupCommit(store)
    nursery.start_soon(commits.run)
    await trio.testing.wait_all_tasks_blocked()
    asked = trio.Event()
    commits.before_batch = asked.set
    commits.nudge()
    await asked.wait()
    assert store.commits == 0


# --- a database that is away, or has others in it ---


class DistantStore(CountingStore):
    """A real store that is away, or stands in the way of others, as often as it is told."""

    is_away = False
    clashes = 0
    begun = 0
    doubts = 0
    """Commits that come to their end unheard; and those that die so."""
    deaths = 0
    goes_away = False
    """With a commit that is unheard."""
    is_buried = False

    def begin(self):
        self.begun += 1
        if self.is_away:
            raise StoreAway("the database does not answer")
        super().begin()

    def commit(self):
        if self.clashes:
            self.clashes -= 1
            raise TryAgain("deadlock")
        if self.is_buried:
            raise Deposed("buried")
        if self.deaths:
            self.deaths -= 1
            self.rollback()
            self._was_committed = False
            raise InDoubt("unheard")
        super().commit()
        if self.doubts:
            self.doubts -= 1
            self._was_committed = True
            self.is_away = self.goes_away
            raise InDoubt("unheard")

    def was_committed(self):
        if self.is_away:
            raise StoreAway("the database does not answer")
        return self._was_committed


async def inline(function):
    """No thread: the clock of a test would jump while it runs."""
    await trio.lowlevel.checkpoint()
    return function()


@pytest.fixture
def distant():
    opened = DistantStore(MEMORY)
    yield opened
    opened.close()


async def test_while_the_database_is_away_who_waits_is_refused_and_the_rest_is_kept_in_order(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.is_away = True
    done = []
    commits.submit(add("a"), done.append)
    commits.submit(add("b"), done.append)
    nursery.start_soon(commits.run)
    with pytest.raises(StoreAway, match="does not answer"):
        await commits.call(add("refused"))
    await trio.sleep(60)
    assert done == []
    commits.submit(add("c"), done.append)
    distant.is_away = False
    await commits.drain()
    assert [distant.get(result.unwrap()).spec.command for result in done] == ["a", "b", "c"]
    assert len(distant.page()) == 3


async def test_who_comes_while_the_database_is_away_is_refused_at_once(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.is_away = True
    nursery.start_soon(commits.run)
    with pytest.raises(StoreAway):
        await commits.call(add("first"))
    begun, now = distant.begun, trio.current_time()
    with pytest.raises(StoreAway):
        await commits.call(add("later"))
    assert (distant.begun, trio.current_time()) == (begun, now)


async def test_who_comes_during_a_try_that_fails_does_not_wait_for_the_next(distant, nursery):
    disk = Disk()
    commits = GroupCommit(distant, disk.run_sync)
    distant.is_away = True
    nursery.start_soon(commits.run)
    commits.nudge()
    refused = []
    commits.submit(add("first"), refused.append, is_refusable=True)
    await disk.wait_for_commit()
    commits.submit(add("second"), refused.append, is_refusable=True)
    await disk.let_one_through()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(result.error) for result in refused] == [StoreAway, StoreAway]


async def test_a_database_that_is_back_is_noticed_though_nothing_waits_for_it(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.is_away = True
    nursery.start_soon(commits.run)
    with pytest.raises(StoreAway):
        await commits.call(add("refused"))
    await trio.sleep(100)
    assert 100 < distant.begun < 110  # the pauses grow, up to the longest one
    distant.is_away = False
    await trio.sleep(LONGEST_PAUSE)
    assert await commits.call(add("taken")) == 1


async def test_a_transaction_that_others_stand_in_the_way_of_is_run_again_as_it_was(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.clashes = TRIES - 1
    results = []
    commits.submit(add("kept"), results.append)
    commits.submit(lambda store: store.get(77), results.append)
    nursery.start_soon(commits.run)
    await commits.drain()
    assert results[0].unwrap() == 1
    assert len(results) == 2
    assert distant.begun == TRIES
    assert trio.current_time() < 0.5


async def test_one_that_others_always_stand_in_the_way_of_counts_as_away(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.clashes = TRIES
    done = []
    commits.submit(add("kept"), done.append)
    nursery.start_soon(commits.run)
    with pytest.raises(StoreAway, match=f"deadlock; that was try {TRIES}"):
        await commits.call(add("refused"))
    await commits.drain()
    assert done[0].unwrap() == 1


async def test_an_operation_that_finds_the_database_away_undoes_all_of_its_batch(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    answers = [StoreAway("lost in the middle"), TryAgain("clash")]

    def stumble(store):
        if answers:
            raise answers.pop(0)
        return "done"

    done = []
    commits.submit(add("kept"), done.append)
    commits.submit(stumble, done.append)
    nursery.start_soon(commits.run)
    await commits.drain()
    assert [result.unwrap() for result in done] == [1, "done"]
    assert len(distant.page()) == 1


async def test_a_commit_in_doubt_is_looked_for_and_never_run_twice(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.doubts = 1
    done = []
    commits.submit(add("kept"), done.append)
    nursery.start_soon(commits.run)
    assert await commits.call(add("waited for")) == 2
    assert [result.unwrap() for result in done] == [1]
    assert len(distant.page()) == 2


async def test_one_in_doubt_that_came_to_nothing_is_run_again_where_nobody_waits(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.deaths = 1
    done = []
    commits.submit(add("kept"), done.append)
    nursery.start_soon(commits.run)
    with pytest.raises(StoreAway, match="is not stored"):
        await commits.call(add("refused"))
    await commits.drain()
    assert len(done) == 1
    assert [job.spec.command for job in distant.page()] == ["kept"]


async def test_who_waits_for_a_commit_in_doubt_waits_until_it_is_known(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.doubts, distant.goes_away = 1, True
    answered = []

    async def submit():
        answered.append(await commits.call(add("in doubt")))

    nursery.start_soon(commits.run)
    nursery.start_soon(submit)
    await trio.sleep(30)
    with pytest.raises(StoreAway):
        await commits.call(add("later"))
    assert answered == []
    distant.is_away = False
    await commits.drain()
    assert len(answered) == len(distant.page()) == 1


async def test_one_who_was_buried_is_refused_until_it_is_let_in_again(
    distant, nursery, autojump_clock
):
    commits = GroupCommit(distant, inline)
    distant.is_buried = True
    done = []
    commits.submit(add("kept"), done.append)
    nursery.start_soon(commits.run)
    with pytest.raises(Deposed):
        await commits.call(add("refused"))
    await trio.sleep(5)
    distant.is_buried = False
    await commits.drain()
    assert len(done) == len(distant.page()) == 1


async def test_nobody_waits_behind_a_database_that_does_not_answer(
    distant, nursery, autojump_clock
):
    async def slowly(function):
        await trio.sleep(10)
        return function()

    commits = GroupCommit(distant, slowly, patience=3)
    nursery.start_soon(commits.run)
    answered = []

    async def submit():
        answered.append(await commits.call(add("in its hands")))

    nursery.start_soon(submit)
    await trio.sleep(2)
    commits.require_reachable()
    await trio.sleep(2)
    with pytest.raises(StoreAway, match="not answered for 3 s"):
        await commits.call(add("refused"))
    with pytest.raises(StoreAway):
        commits.require_reachable()
    assert (trio.current_time(), commits.is_up) == (4, False)
    await trio.sleep(7)
    assert answered == [1]
    assert commits.is_up
