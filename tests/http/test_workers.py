"""Draining and resuming workers over HTTP."""

import httpx2
import pytest

from tests.http.fake_queue import FakeQueue


async def states(client: httpx2.AsyncClient) -> dict[str, str]:
    return {item["id"]: item["state"] for item in (await client.get("/api/v1/workers")).json()}


async def test_drain_and_resume(client: httpx2.AsyncClient, queue: FakeQueue) -> None:
    for _ in range(2):
        response = await client.post("/api/v1/workers/1/drain")
        assert (response.status_code, response.json()["state"]) == (200, "draining")
    assert response.json()["name"] == "w1"
    assert await states(client) == {"1": "draining"}
    response = await client.post("/api/v1/workers/1/resume")
    assert (response.status_code, response.json()["state"]) == (200, "ready")


async def test_a_drained_worker_that_is_away_is_shown_and_can_be_resumed(
    client: httpx2.AsyncClient, queue: FakeQueue
) -> None:
    queue.drained = {"a/b c"}
    assert await states(client) == {"1": "ready", "a/b c": "away"}
    response = await client.post("/api/v1/workers/a%2Fb%20c/resume")
    assert (response.status_code, response.json()["state"]) == (200, "away")
    assert await states(client) == {"1": "ready"}


@pytest.mark.parametrize("verb", ["drain", "resume"])
@pytest.mark.parametrize("worker", ["2", "drain", "%00", "%ff", "w1"])
async def test_unknown_workers(client: httpx2.AsyncClient, verb: str, worker: str) -> None:
    response = await client.post(f"/api/v1/workers/{worker}/{verb}")
    assert response.status_code == 404
    assert "queued-runner workers" in response.json()["detail"]


async def test_one_that_leaves_cannot_be_resumed(
    client: httpx2.AsyncClient, queue: FakeQueue
) -> None:
    queue.leaves = True
    response = await client.post("/api/v1/workers/1/resume")
    assert response.status_code == 409
    assert response.json()["detail"].startswith("Worker w1 was told to stop where it runs")
