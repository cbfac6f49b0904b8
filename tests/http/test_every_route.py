"""Every route there is, with every method, behind the guard: taken from the application itself."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
import pytest
import trio

from queued_runner.http.app import create_app
from queued_runner.http.guard import OPEN_PATHS
from tests.http.fake_queue import FakeQueue
from tests.http.serving import TOKEN

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
FAULTS = {
    "no token": ({"Authorization": ""}, 401),
    "bad host": ({"Host": "evil.example:8633"}, 421),
    "bad origin": ({"Origin": "http://evil.example"}, 403),
    "another site": ({"Sec-Fetch-Site": "cross-site"}, 403),
}


def paths(routes: Iterable[Any]) -> Iterator[str]:
    """The paths of routes and of the routers among them."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from paths(inner.routes)
        else:
            yield route.path


@pytest.fixture
async def routes(client: httpx2.AsyncClient) -> list[str]:
    guard = create_app(FakeQueue(), token=TOKEN, port=8633, shutdown=trio.Event())
    found = {path.replace(":path}", "}") for path in paths(guard.app.routes)}
    described = set((await client.get("/openapi.json")).json()["paths"])
    assert found >= described | {"/openapi.json"}
    return sorted(re.sub("[{}]", "", path) for path in found | {"/", "/nothing/here"})


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_route_refuses_each_method(
    client: httpx2.AsyncClient, routes: list[str], fault: str
) -> None:
    headers, status = FAULTS[fault]
    asked = 0
    for route in routes:
        if fault == "no token" and route in OPEN_PATHS:
            continue
        for method in METHODS:
            response = await client.request(method, route, headers=headers)
            assert response.status_code == status, (method, route)
            assert response.headers["content-type"] == "application/problem+json"
            asked += 1
    assert asked > 10 * len(METHODS)


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
async def test_what_is_open_is_open_for_looking_only(client: httpx2.AsyncClient, path: str) -> None:
    for method in METHODS[2:]:
        response = await client.request(method, path, headers={"Authorization": ""})
        assert response.status_code in (400, 405, 501), (method, path)
