"""The API over a fake queue, in a thread of its own, so that verbs run in the main one.

Tests play the worker: with `do` between two verbs, with `play` beside one that blocks.
"""

import functools
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from tests.http.fake_queue import FakeQueue
from tests.http.serving import TOKEN, serving

PATIENCE = 30.0
"""Seconds: much more than anything here takes, because the machine may be busy with other work."""


class ServiceThread:
    """A server that announces itself in `data_dir`; leaving it stops it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.queue = FakeQueue()
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_ready.wait(PATIENCE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.do(self._nursery.cancel_scope.cancel)
        self._thread.join(PATIENCE)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._serve)
            self._is_ready.set()
            await trio.sleep_forever()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with serving(self.queue, trio.Event()) as self._served:
            served = self._served
            (self.data_dir / "token").write_text(TOKEN)
            facts = {"url": served.url, "token_file": str(self.data_dir / "token")}
            (self.data_dir / "server.json").write_text(json.dumps(facts))
            task_status.started()
            await served.ended.wait()

    def do(self, action: Callable[..., Any], *args: Any, **given: Any) -> Any:
        """Call a method of the queue, in its own thread."""
        call = functools.partial(action, *args, **given)
        return trio.from_thread.run_sync(call, trio_token=self._token)

    def play(self, script: Callable[["ServiceThread"], Awaitable[None]]) -> None:
        """Run a script of the worker beside what this thread does next."""
        self.do(self._nursery.start_soon, script, self)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Until something that changes in the queue is so."""

        async def wait() -> None:
            with trio.fail_after(PATIENCE):
                await self.queue.until(condition)

        trio.from_thread.run(wait, trio_token=self._token)

    async def restart(self) -> None:
        """Stop the server and start it on another port; only for scripts."""
        await self._stop()
        await self._nursery.start(self._serve)

    def stop(self) -> None:
        """Stop the server: its address stays in `server.json`."""
        trio.from_thread.run(self._stop, trio_token=self._token)

    def start(self) -> None:
        """Start it again, on another port."""
        trio.from_thread.run(self._nursery.start, self._serve, trio_token=self._token)

    async def _stop(self) -> None:
        self._served.shutdown.set()
        await self._served.ended.wait()
