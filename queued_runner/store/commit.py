"""The one writer: everything that arrived while the last commit ran goes into the next.

Owns the order of writes and the moment they are acknowledged: after the commit, never before. On a
full disk, and while the database is away, those who wait for an answer are refused, and what must
be stored is tried again.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import outcome
import trio

from queued_runner.store.base import (
    Deposed,
    InDoubt,
    NoRoom,
    Store,
    StoreAway,
    StoreBroken,
    StoreFull,
    TryAgain,
)
from remote_runner.errors import RunnerError
from remote_runner.sparing_log import SparingLog

T = TypeVar("T")
Operation = Callable[[Store], Any]
Done = Callable[[Any], None]
RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]

MAX_BATCH: Final = 2000
MAX_PENDING: Final = 50_000
FULL_PAUSE: Final = 1.0
"""Seconds between two tries while the disk has no room."""
AWAY_PAUSE: Final = 0.1
"""Seconds until the first new try while the database is away; each pause is twice the last one."""
LONGEST_PAUSE: Final = 1.0
"""Seconds between two of them at most."""
TRIES: Final = 10
"""How often a transaction that others stand in the way of is run, until the database is away."""
AGAIN_PAUSE: Final = 0.005
"""Seconds before it is run for the third time; before the second time there is none, and then each
pause is longer by so much: the others have their turn meanwhile."""


class _Pending(NamedTuple):
    operation: Operation
    done: Done
    is_refusable: bool
    """Whether somebody waits for it who can be told that it is not stored."""


class GroupCommit:
    """Runs operations on a store in grouped transactions, off the event loop.

    Args:
        store: the writing connection; nobody else may use it.
        patience: seconds after which a database that has not answered counts as away.
        run_sync: runs a blocking function; a thread in life, inline in a simulator.
    """

    def __init__(
        self, store: Store, run_sync: RunSync | None = None, *, patience: float = math.inf
    ) -> None:
        self._store = store
        self._patience = patience
        limiter = trio.CapacityLimiter(1)

        async def in_thread(function: Callable[[], Any]) -> Any:
            return await trio.to_thread.run_sync(function, limiter=limiter)

        self._run_sync = run_sync or in_thread
        self._pending: deque[_Pending] = deque()
        self._most = MAX_BATCH
        self._on_full = SparingLog("queued_runner", "states wait for room on the disk")
        self._on_away = SparingLog("queued_runner", "states wait for the database")
        self._away: StoreAway | None = None
        """Why the last try did not reach the database."""
        self._asked = math.inf
        """Since when the database is to answer."""
        self._away_pause = AWAY_PAUSE
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._is_broken = False
        self.commits = 0
        self.operations = 0
        """What those commits were made of."""
        self.before_batch: Callable[[], None] = _nothing
        """Called as a batch is formed: the last moment to `submit` something that goes with it."""

    @property
    def is_up(self) -> bool:
        """Whether the last try has reached the database, and this one may do so yet."""
        return self._why_away() is None

    def _why_away(self) -> StoreAway | None:
        if self._away is None and trio.current_time() > self._asked + self._patience:
            return StoreAway(f"the database has not answered for {self._patience:g} s")
        return self._away

    async def run(self) -> None:
        """Commit for ever. On a full disk the next try is for half as much.

        Raises:
            StoreBroken: a commit failed; every waiting caller has been told, none was acknowledged.
        """
        while True:
            self.before_batch()
            # While the database is away nothing may be pending: the next try is then for nothing
            # else than to see it again.
            if not self._pending and self._away is None:
                await self._work.park()
                continue
            count = min(len(self._pending), self._most)
            batch = [self._pending.popleft() for _ in range(count)]
            self._room.unpark_all()
            try:
                # Once begun it ends, whoever is cancelled: results belong to a finished commit.
                with trio.CancelScope(shield=True):
                    results, doubt = await self._try(batch)
                if doubt is not None:
                    await self._resolve(doubt)
            except StoreFull as error:
                self._most = max(1, count // 2)
                self._put_back(batch, error, self._on_full)
                await trio.sleep(FULL_PAUSE)
                continue
            except (StoreAway, Deposed) as error:
                # One who was deposed is let in again: it is not away, and yet has to wait.
                self._away = error if isinstance(error, StoreAway) else None
                self._put_back(batch, error, self._on_away)
                self._refuse_pending(error)
                await self._pause_while_away()
                continue
            except StoreBroken as error:
                self._is_broken = True
                for pending in [*batch, *self._pending]:
                    pending.done(outcome.Error(error))
                raise
            self._most = MAX_BATCH
            self._away, self._away_pause = None, AWAY_PAUSE
            self.commits += 1
            self.operations += count
            for pending, result in zip(batch, results, strict=True):
                pending.done(result)

    async def _pause_while_away(self) -> None:
        await trio.sleep(self._away_pause)
        self._away_pause = min(LONGEST_PAUSE, 2 * self._away_pause)

    async def _resolve(self, doubt: InDoubt) -> None:
        """Return once a commit in doubt is known to have come to its end. Raises StoreAway: it has
        not, and will not."""
        self._away = doubt
        while True:
            self._refuse_pending(doubt)
            try:
                with trio.CancelScope(shield=True):
                    was_committed = await self._run_sync(self._store.was_committed)
            except StoreAway as error:
                self._on_away.warning(why=str(error))
                await self._pause_while_away()
            else:
                break
        if not was_committed:
            raise StoreAway(f"{doubt}; what was being committed is not stored")

    async def _try(self, batch: list[_Pending]) -> tuple[list[Any], InDoubt | None]:
        """Commit a batch, once more at once where others stood in its way."""
        for tries in range(TRIES):
            try:
                self._asked = trio.current_time()
                tried: tuple[list[Any], InDoubt | None]
                tried = await self._run_sync(partial(self._commit, batch))
            except TryAgain as error:
                last = error
                await trio.sleep(tries * AGAIN_PAUSE)
            else:
                return tried
            finally:
                self._asked = math.inf
        raise StoreAway(f"{last}; that was try {TRIES}") from last

    def _put_back(
        self, batch: list[_Pending], error: NoRoom | StoreAway | Deposed, said: SparingLog
    ) -> None:
        """What nobody waits for comes first again, in its order; the rest is refused."""
        kept = [pending for pending in batch if not pending.is_refusable]
        self._pending.extendleft(reversed(kept))
        if kept:
            said.warning(why=str(error))
        for pending in batch:
            if pending.is_refusable:
                pending.done(outcome.Error(error))

    def _refuse_pending(self, error: StoreAway | Deposed) -> None:
        """What came during a try that has failed would not wait for the next one either."""
        refused = [pending for pending in self._pending if pending.is_refusable]
        self._pending = deque(pending for pending in self._pending if not pending.is_refusable)
        self._room.unpark_all()
        for pending in refused:
            pending.done(outcome.Error(error))

    def _commit(self, batch: list[_Pending]) -> tuple[list[Any], InDoubt | None]:
        """What came of each, and why it is in doubt whether that is stored."""
        store = self._store
        results: list[Any] = []
        store.begin()
        try:
            for pending in batch:
                try:
                    results.append(outcome.Value(pending.operation(store)))
                except (StoreBroken, StoreFull, StoreAway, TryAgain):
                    raise
                except RunnerError as error:  # refused: it has changed nothing
                    results.append(outcome.Error(error))
            store.commit()
        except InDoubt as doubt:
            store.rollback()
            return results, doubt
        except BaseException:
            store.rollback()
            raise
        return results, None

    def nudge(self) -> None:
        """Ask `before_batch` now, if no commit runs; else it is asked after that."""
        if self._work:
            self._work.unpark()

    def submit(self, operation: Operation, done: Done, *, is_refusable: bool = False) -> None:
        """Queue an operation; `done` gets an `outcome.Outcome` once the commit is durable.

        While the disk is full, or the database away, it is tried again; `is_refusable`: it gets
        StoreFull, or StoreAway, instead.
        """
        if self._is_broken:
            done(outcome.Error(StoreBroken("the queue is closed after a disk error")))
            return
        why_away = self._why_away() if is_refusable else None
        if why_away is not None:
            done(outcome.Error(why_away))
            return
        self._pending.append(_Pending(operation, done, is_refusable))
        self.nudge()

    def require_reachable(self) -> None:
        """Raises StoreAway while the database is away, as far as is known."""
        why_away = self._why_away()
        if why_away is not None:
            raise why_away

    async def wait_for_room(self) -> None:
        """Return once `call` will submit without waiting; at once, without a checkpoint, if so."""
        while len(self._pending) >= MAX_PENDING and self.is_up:
            await self._room.park()

    async def call(
        self, operation: Callable[[Store], T], then: Callable[[T], None] | None = None
    ) -> T:
        """Run an operation and wait until it is durable. A cancelled caller's is still run.

        `then` gets the result at once when it is durable: in the order of the commits, before
        whatever the next one makes true.

        Raises:
            NoRoom: there is no room on the disk for it.
            StoreAway: the database cannot be reached.
            StoreBroken: the disk failed; nobody knows whether it is stored.
        """
        await self.wait_for_room()
        finished = trio.Event()
        results: list[Any] = []

        def done(result: Any) -> None:
            results.append(result)
            if then is not None and isinstance(result, outcome.Value):
                then(result.value)
            finished.set()

        self.submit(operation, done, is_refusable=True)
        await finished.wait()
        value: T = results[0].unwrap()
        return value

    async def drain(self) -> None:
        """Wait until everything submitted so far is durable."""
        if not self._is_broken:
            finished = trio.Event()
            self.submit(_nothing, lambda _: finished.set())
            await finished.wait()


def _nothing(*_: object) -> None:
    pass
