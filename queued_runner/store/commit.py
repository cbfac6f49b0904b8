"""The one writer: everything that arrived while the last commit ran goes into the next.

Owns the order of writes and the moment they are acknowledged: after the commit, never before.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import outcome
import trio

from queued_runner.store.base import Store, StoreBroken
from remote_runner.errors import RunnerError

T = TypeVar("T")
Operation = Callable[[Store], Any]
Done = Callable[[Any], None]
RunSync = Callable[[Callable[[], Any]], Awaitable[Any]]

MAX_BATCH: Final = 2000
MAX_PENDING: Final = 50_000


class GroupCommit:
    """Runs operations on a store in grouped transactions, off the event loop.

    Args:
        store: the writing connection; nobody else may use it.
        run_sync: runs a blocking function; a thread in life, inline in a simulator.
    """

    def __init__(self, store: Store, run_sync: RunSync | None = None) -> None:
        self._store = store
        limiter = trio.CapacityLimiter(1)

        async def in_thread(function: Callable[[], Any]) -> Any:
            return await trio.to_thread.run_sync(function, limiter=limiter)

        self._run_sync = run_sync or in_thread
        self._pending: deque[tuple[Operation, Done]] = deque()
        self._work = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._is_broken = False
        self.before_batch: Callable[[], None] = _nothing
        """Called as a batch is formed: the last moment to `submit` something that goes with it."""

    async def run(self) -> None:
        """Commit for ever.

        Raises:
            StoreBroken: a commit failed; every waiting caller has been told, none was acknowledged.
        """
        while True:
            self.before_batch()
            if not self._pending:
                await self._work.park()
                continue
            count = min(len(self._pending), MAX_BATCH)
            batch = [self._pending.popleft() for _ in range(count)]
            self._room.unpark_all()
            try:
                # Once begun it ends, whoever is cancelled: results belong to a finished commit.
                with trio.CancelScope(shield=True):
                    results = await self._run_sync(partial(self._commit, batch))
            except StoreBroken as error:
                self._is_broken = True
                for _, done in [*batch, *self._pending]:
                    done(outcome.Error(error))
                raise
            for (_, done), result in zip(batch, results, strict=True):
                done(result)

    def _commit(self, batch: list[tuple[Operation, Done]]) -> list[Any]:
        store = self._store
        results: list[Any] = []
        store.begin()
        try:
            for operation, _ in batch:
                try:
                    results.append(outcome.Value(operation(store)))
                except StoreBroken:
                    raise
                except RunnerError as error:  # refused: it has changed nothing
                    results.append(outcome.Error(error))
            store.commit()
        except BaseException:
            store.rollback()
            raise
        return results

    def nudge(self) -> None:
        """Ask `before_batch` now, if no commit runs; else it is asked after that."""
        if self._work:
            self._work.unpark()

    def submit(self, operation: Operation, done: Done) -> None:
        """Queue an operation; `done` gets an `outcome.Outcome` once the commit is durable."""
        if self._is_broken:
            done(outcome.Error(StoreBroken("the queue is closed after a disk error")))
            return
        self._pending.append((operation, done))
        self.nudge()

    async def wait_for_room(self) -> None:
        """Return once `call` will submit without waiting; at once, without a checkpoint, if so."""
        while len(self._pending) >= MAX_PENDING:
            await self._room.park()

    async def call(self, operation: Callable[[Store], T]) -> T:
        """Run an operation and wait until it is durable. A cancelled caller's is still run."""
        await self.wait_for_room()
        finished = trio.Event()
        results: list[Any] = []

        def done(result: Any) -> None:
            results.append(result)
            finished.set()

        self.submit(operation, done)
        await finished.wait()
        value: T = results[0].unwrap()
        return value

    async def drain(self) -> None:
        """Wait until everything submitted so far is durable."""
        if not self._is_broken:
            await self.call(_nothing)


def _nothing(*_: object) -> None:
    pass
