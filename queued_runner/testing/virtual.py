"""The real service inside a test, under a virtual clock: no thread, no port, no process, no wait.

Owns the seams: blocking work is done at once, time is trio's, and workers are connected by streams
in memory. Everything between is what runs in life; the queue lies in a folder of the test.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock, memory_stream_pair

from queued_runner.config import Settings
from queued_runner.runner import QueuedRunner
from queued_runner.service import open_queue
from queued_runner.testing.fake_worker import FakeWorker, open_fake_worker
from remote_runner.runner import RemoteRunner


async def _inline(function: Callable[[], Any]) -> Any:
    """Blocking work without a thread: a virtual clock would not wait for one."""
    await trio.lowlevel.checkpoint()
    return function()


class VirtualService:
    """A queue without workers yet. `runner` is what `open_runner` gives."""

    def __init__(self, runner: QueuedRunner, remote: RemoteRunner, nursery: trio.Nursery) -> None:
        self.runner = runner
        self._remote = remote
        self._nursery = nursery

    def dial(self) -> trio.abc.Stream:
        """A new connection to the port for workers, as a stream."""
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._remote.handle_stream, theirs)
        return ours

    @asynccontextmanager
    async def worker(
        self, name: str = "fake", *, slots: int = 1, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[FakeWorker]:
        """A fake worker, connected while entered; see `open_fake_worker`."""
        async with open_fake_worker(self.dial(), name, slots=slots, labels=labels) as worker:
            yield worker


@asynccontextmanager
async def open_virtual_service(folder: Path) -> AsyncIterator[VirtualService]:
    """The service on the queue in this folder, while entered.

    Leaving stops it as a signal would. Opened again on the same folder it is the next server.

    Raises:
        RuntimeError: the clock is not `trio.testing.MockClock`.
    """
    if not isinstance(trio.lowlevel.current_clock(), MockClock):
        raise RuntimeError(
            "a virtual service needs a virtual clock: let the test ask for `autojump_clock`, or run"
            " it with trio.run(…, clock=MockClock(autojump_threshold=0))"
        )
    remote = RemoteRunner(port=None)
    settings = Settings(data_dir=folder, http_port=None)
    async with open_queue(
        settings, [remote], run_sync=_inline, now=_wall, rng=lambda: 0.5
    ) as runner:
        async with trio.open_nursery() as nursery:
            yield VirtualService(runner, remote, nursery)
            nursery.cancel_scope.cancel()


EPOCH = 1_700_000_000.0
"""What the wall clock shows when trio's clock shows 0."""


def _wall() -> float:
    return EPOCH + trio.current_time()
