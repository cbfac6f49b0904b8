"""Submit, list, look, wait and cancel over HTTP."""

import httpx2
import pytest
import trio

from queued_runner.jobs import JobState
from tests.http.fake_queue import FakeQueue


async def test_one_job(client: httpx2.AsyncClient, queue: FakeQueue) -> None:
    response = await client.post("/api/v1/jobs", json={"command": "make", "args": ["-j", "2"]})
    assert (response.status_code, response.json()) == (201, {"id": 1})
    assert queue.jobs[1].spec.args == ("-j", "2")
    job = (await client.get("/api/v1/jobs/1")).json()
    assert job["state"] == "queued"
    assert job["pending_reason"] == "no worker is connected"
    assert job["created_at"] == "2023-11-14T22:13:20.000Z"
    assert job["args"] == ["-j", "2"]
    queue.start(1)
    queue.finish(1)
    job = (await client.get("/api/v1/jobs/1")).json()
    assert (job["state"], job["duration"], job["pending_reason"]) == ("succeeded", 2.0, None)
    attempts = (await client.get("/api/v1/jobs/1/attempts")).json()
    assert [(item["attempt"], item["worker"]) for item in attempts] == [(1, "w1")]


async def test_a_list_is_taken_or_refused_as_a_whole(client, queue: FakeQueue) -> None:
    good = [{"command": "a"}, {"command": "b"}]
    assert (await client.post("/api/v1/jobs", json=good)).json() == {"ids": [1, 2]}
    bad = [*good, {"command": "c", "args": [1]}]
    response = await client.post("/api/v1/jobs", json=bad)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "[2].args[0]"
    assert len(queue.jobs) == 2
    assert (await client.post("/api/v1/jobs", json=[])).json() == {"ids": []}
    many = [{"command": "a"}] * 10_001
    assert (await client.post("/api/v1/jobs", json=many)).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"command": "a", "prioritty": 1}', 422, "did you mean 'priority'"),
        (b"{}", 422, "command: this field is required"),
        (b'{"command": "a", "env": {"A=": "1"}}', 422, "is not the name of a variable"),
        (b'{"command": "a", "timeout": -1}', 422, "timeout"),
        (b'{"command": "\\u0000"}', 422, "command"),
        (b'{"command": "\\ud800"}', 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"", 400, "JSON"),
        (b"3", 422, "body: it must be an object"),
        (b'{"command": "a", "needs": {"": ""}}', 422, "needs: a name in it is not allowed"),
        (b'[{"command": "a", "stdin": 1}]', 422, "[0].stdin: it must be text or an object"),
        (b"\xff\xfe", 400, "JSON"),
    ],
)
async def test_refusals_name_the_field(client, body: bytes, status: int, words: str) -> None:
    response = await client.post("/api/v1/jobs", content=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert words in response.json()["detail"]


async def test_a_full_disk_refuses_jobs_in_a_sentence(client, queue: FakeQueue) -> None:
    queue.is_full = True
    response = await client.post("/api/v1/jobs", json={"command": "a"})
    assert response.status_code == 507
    assert response.json()["detail"] == "The disk is full; free some space."
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["detail"].endswith("now: the disk is full; free some space.")
    queue.is_full = False
    assert (await client.post("/api/v1/jobs", json={"command": "a"})).status_code == 201


async def test_keys(client, queue: FakeQueue) -> None:
    key = {"Idempotency-Key": "k"}
    for _ in range(2):
        response = await client.post("/api/v1/jobs", json={"command": "a"}, headers=key)
        assert (response.status_code, response.json()) == (201, {"id": 1})
    response = await client.post("/api/v1/jobs", json={"command": "b"}, headers=key)
    assert (response.status_code, response.json()["id"]) == (409, 1)
    for _ in range(2):
        response = await client.post("/api/v1/jobs", json=[{"command": "a"}] * 2, headers=key)
        assert response.json() == {"ids": [2, 3]}


async def test_pages(client, queue: FakeQueue) -> None:
    specs = [{"command": "a", "group": "g" if index % 2 else "h"} for index in range(10)]
    await client.post("/api/v1/jobs", json=specs)
    page = (await client.get("/api/v1/jobs?group=g&limit=3")).json()
    assert [job["id"] for job in page] == [10, 8, 6]
    page = (await client.get("/api/v1/jobs?group=g&limit=3&before=6")).json()
    assert [job["id"] for job in page] == [4, 2]
    response = await client.get("/api/v1/jobs?state=odd&limit=0")
    assert response.status_code == 422
    assert {item["field"] for item in response.json()["errors"]} == {"state", "limit"}


async def test_what_is_not_there(client) -> None:
    for route in ("", "/attempts", "/logs", "/logs/stream"):
        response = await client.get(f"/api/v1/jobs/7{route}")
        assert (response.status_code, "no job 7" in response.text) == (404, True)
    assert (await client.post("/api/v1/jobs/7/cancel")).status_code == 404
    assert (await client.get("/api/v1/jobs/x")).status_code == 422
    assert (await client.get("/nothing")).json()["status"] == 404
    assert (await client.put("/api/v1/jobs")).json()["status"] == 405


async def test_cancel(client, queue: FakeQueue) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    response = await client.post("/api/v1/jobs/1/cancel", json={"signal": "SIGINT", "grace": 2})
    assert response.json()["state"] == "cancelled"
    assert queue.cancels == [(1, "SIGINT", 2.0)]
    assert (await client.post("/api/v1/jobs/1/cancel", json={"signal": "x"})).status_code == 422
    assert (await client.post("/api/v1/jobs/1/cancel", json={"x": 1})).status_code == 422


async def test_wait_ends_with_the_job_or_the_server(client, queue, shutdown) -> None:
    await client.post("/api/v1/jobs", json=[{"command": "a"}, {"command": "b"}])

    async def ask(job_id: int, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        states[job_id] = (await client.get(f"/api/v1/jobs/{job_id}?wait=60")).json()["state"]

    states: dict[int, str] = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(ask, 1)
        queue.start(1)
        queue.finish(1, 3)
    assert states[1] == "failed"
    async with trio.open_nursery() as nursery:
        await nursery.start(ask, 2)
        shutdown.set()
    assert states[2] == "queued"


async def test_service_routes(client, queue: FakeQueue) -> None:
    assert (await client.get("/api/v1/workers")).json()[0]["labels"] == {"gpu": "1"}
    schema = (await client.get("/openapi.json")).json()
    assert "JobSpec" in schema["components"]["schemas"]
    assert set(schema["paths"]) >= {"/api/v1/jobs", "/api/v1/jobs/{job_id}/logs/stream"}
    queue.is_accepting = False
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).status_code == 200
    response = await client.post("/api/v1/jobs", json={"command": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert JobState.QUEUED not in [job.state for job in queue.jobs.values()]
