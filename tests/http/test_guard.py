"""Every route and method behind the guard; bodies within their bounds."""

import gzip

import httpx2
import pytest
import trio

from queued_runner.http.body import BodyRefused, read_body
from queued_runner.http.guard import Guard

ROUTES = [
    "/",
    "/openapi.json",
    "/api/v1/jobs",
    "/api/v1/jobs/1",
    "/api/v1/jobs/1/attempts",
    "/api/v1/jobs/1/cancel",
    "/api/v1/jobs/cancel",
    "/api/v1/jobs/1/logs",
    "/api/v1/jobs/1/logs/stream",
    "/api/v1/workers",
    "/nothing/here",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
FAULTS = [
    ({"Authorization": ""}, 401),
    ({"Authorization": "Bearer wrong"}, 401),
    ({"Authorization": "Basic test-token"}, 401),
    ({"Authorization": "Bearer test-token2"}, 401),
    ({"Host": "evil.example"}, 421),
    ({"Host": "evil.example:8633"}, 421),
    ({"Host": "127.0.0.1:1"}, 421),
    ({"Host": "127.0.0.1"}, 421),
    ({"Host": ""}, 421),
    ({"Host": "localhost:8633.evil.example"}, 421),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://localhost:3000"}, 403),
    ({"Origin": "file://127.0.0.1:8633"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), FAULTS, ids=lambda value: str(value))
@pytest.mark.parametrize("method", METHODS)
async def test_each_route_refuses(
    client: httpx2.AsyncClient, method: str, headers: dict[str, str], status: int
) -> None:
    for route in ROUTES:
        response = await client.request(method, route, headers=headers)
        assert response.status_code == status, route
        assert response.headers["content-type"] == "application/problem+json"
        if method != "HEAD":  # which has no body
            assert response.json()["status"] == status
            assert response.json()["detail"].endswith(".")


@pytest.mark.parametrize("route", ["/healthz", "/readyz"])
async def test_health_needs_no_token_but_our_name(client: httpx2.AsyncClient, route: str) -> None:
    assert (await client.get(route, headers={"Authorization": ""})).status_code == 200
    assert (await client.get(route, headers={"Host": "evil.example"})).status_code == 421


async def test_who_comes_through_a_forward_learns_how_to_make_it(
    client: httpx2.AsyncClient,
) -> None:
    refused = await client.get("/api/v1/workers", headers={"Host": "localhost:9000"})
    assert "ssh -L 8633:127.0.0.1:8633." in refused.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8633"},
        {"Host": "LOCALHOST:8633"},
        {"Host": "[::1]:8633"},
        {"Origin": "http://127.0.0.1:8633", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://ci.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {"Authorization": "bearer test-token"},
    ],
)
async def test_good_requests_pass(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.get("/api/v1/jobs", headers=headers)).status_code == 200


async def test_preflight_of_a_listed_origin_is_answered(client: httpx2.AsyncClient) -> None:
    headers = {
        "Origin": "https://ci.example",
        "Access-Control-Request-Method": "POST",
        "Authorization": "",
    }
    response = await client.options("/api/v1/jobs", headers=headers)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://ci.example"


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="token"):
        Guard(None, token="", port=1)  # type: ignore[arg-type]


async def test_large_and_odd_bodies_are_refused(served) -> None:
    large = b" " * (16 * 1024 * 1024 + 1)
    bomb = gzip.compress(large)
    good = gzip.compress(b'{"command": "true"}')
    gzipped, odd = {"Content-Encoding": "gzip"}, {"Content-Encoding": "br"}
    async with served.client() as client:
        for body, headers, status in (
            (large, {}, 413), (bomb, gzipped, 413), (good, gzipped, 201), (good[:-3], gzipped, 400),
            (good + b"x", gzipped, 400), (b"no", gzipped, 400), (b"x", odd, 415),
        ):  # fmt: skip
            response = await client.post("/api/v1/jobs", content=body, headers=headers)
            assert response.status_code == status


async def test_a_body_in_pieces_is_bounded_too() -> None:
    received = 0

    async def receive() -> dict[str, object]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    with pytest.raises(BodyRefused) as caught:
        await read_body(receive)
    assert caught.value.status == 413
    assert received == 17


async def test_a_body_that_stops_is_refused(autojump_clock: object) -> None:
    begun = trio.current_time()
    with pytest.raises(BodyRefused) as caught:
        await read_body(trio.sleep_forever)
    assert caught.value.status == 408
    assert trio.current_time() - begun == pytest.approx(30)


async def test_an_error_shows_no_traceback(client: httpx2.AsyncClient, queue, caplog) -> None:
    queue.broken = True
    response = await client.post("/api/v1/jobs", json={"command": "true"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert "secret" in caplog.text
