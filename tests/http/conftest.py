"""The guarded application over a fake queue: without a socket, and on one."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import trio

from queued_runner.http.app import create_app
from tests.http.fake_queue import FakeQueue
from tests.http.serving import TOKEN, Served, serving


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


@pytest.fixture
async def served(queue: FakeQueue, shutdown: trio.Event) -> AsyncIterator[Served]:
    async with serving(queue, shutdown) as served:
        yield served
