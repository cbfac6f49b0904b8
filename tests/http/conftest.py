"""The guarded application over a fake queue: without a socket, and on one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest
import trio

from queued_runner.http.app import create_app
from queued_runner.http.server import bind, serve_http
from tests.http.fake_queue import FakeQueue

TOKEN = "test-token"


@pytest.fixture
async def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
async def shutdown() -> trio.Event:
    return trio.Event()


@pytest.fixture
async def client(queue: FakeQueue, shutdown: trio.Event) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(
        queue, token=TOKEN, port=8633, shutdown=shutdown, cors_origins=["https://ci.example"]
    )
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),
        base_url="http://127.0.0.1:8633",
        headers={"Authorization": f"Bearer {TOKEN}"},
    ) as client:
        yield client


@dataclass
class Served:
    port: int
    queue: FakeQueue
    shutdown: trio.Event
    ended: trio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )


@pytest.fixture
async def served(
    queue: FakeQueue, shutdown: trio.Event, nursery: trio.Nursery
) -> AsyncIterator[Served]:
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    app = create_app(queue, token=TOKEN, port=port, shutdown=shutdown)
    ended = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        await serve_http(sock, app, shutdown=shutdown, grace=0.2, task_status=task_status)
        ended.set()

    await nursery.start(serve)
    yield Served(port, queue, shutdown, ended)
    shutdown.set()
    await ended.wait()
