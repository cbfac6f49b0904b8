"""The guarded application over a queue, on a real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import trio

from queued_runner.http.app import create_app
from queued_runner.http.server import bind, serve_http
from queued_runner.queue import Queue

TOKEN = "test-token"


@dataclass
class Served:
    """A server that runs; `shutdown` stops it, `ended` says that it has stopped."""

    port: int
    queue: Queue
    shutdown: trio.Event
    ended: trio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )


@asynccontextmanager
async def serving(queue: Queue, shutdown: trio.Event) -> AsyncIterator[Served]:
    """Serve on a free port while entered."""
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    app = create_app(queue, token=TOKEN, port=port, shutdown=shutdown)
    ended = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        await serve_http(sock, app, shutdown=shutdown, grace=0.2, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        yield Served(port, queue, shutdown, ended)
        shutdown.set()
