"""Jobs that come after others, retries, deletion, reasons and groups over HTTP."""

import json

import httpx2
import msgpack
import pytest
import trio

from queued_runner.jobs import JobSpec
from tests.http.fake_queue import FakeQueue
from tests.http.serving import Served


def add(queue: FakeQueue, *endings: int | None, **fields) -> list[int]:
    """Jobs that have ended with these codes; None: that are queued."""
    ids = queue.add(*[JobSpec(command="x", **fields) for _ in endings])
    for job_id, code in zip(ids, endings, strict=True):
        if code is not None:
            queue.start(job_id)
            queue.finish(job_id, code)
    return ids


async def test_what_a_job_comes_after_is_sent_and_shown(client, queue: FakeQueue) -> None:
    add(queue, 0, None)
    response = await client.post("/api/v1/jobs", json={"command": "x", "after": [1, 2]})
    assert response.json() == {"id": 3}
    assert (await client.get("/api/v1/jobs/3")).json()["after"] == [1, 2]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": "x", "after": [9]}, "after[0]"),
        ([{"command": "x"}, {"command": "x", "after": [9]}], "[1].after[0]"),
    ],
)
async def test_a_dependency_that_cannot_be_is_named(client, queue, body, field) -> None:
    response = await client.post("/api/v1/jobs", json=body)
    assert response.status_code == 422
    problem = response.json()
    assert problem["detail"] == f"{field}: there is no job 9"
    assert problem["errors"] == [{"field": field, "detail": "there is no job 9"}]


async def test_a_retry_queues_what_has_ended(client, queue: FakeQueue) -> None:
    add(queue, 3, None)
    response = await client.post("/api/v1/jobs/1/retry")
    assert (response.status_code, response.json()["state"]) == (200, "queued")
    assert queue.retries == [1]
    response = await client.post("/api/v1/jobs/2/retry")
    assert (response.status_code, "cancel it first" in response.text) == (409, True)
    assert (await client.post("/api/v1/jobs/9/retry")).status_code == 404


async def test_only_what_has_ended_is_deleted(client, queue: FakeQueue) -> None:
    add(queue, 0, None)
    response = await client.delete("/api/v1/jobs/1")
    assert (response.status_code, response.content) == (204, b"")
    assert (await client.get("/api/v1/jobs/1")).status_code == 404
    assert (await client.delete("/api/v1/jobs/1")).status_code == 404
    response = await client.delete("/api/v1/jobs/2")
    assert (response.status_code, response.json()["title"]) == (409, "Conflict")
    assert 2 in queue.jobs


async def test_why_a_job_waits_is_told_by_worker(client, queue: FakeQueue) -> None:
    add(queue, None, needs={"gpu": "2"})
    explained = (await client.get("/api/v1/jobs/1/explain")).json()
    assert explained == {
        "id": 1,
        "state": "queued",
        "reason": "no connected worker has the labels gpu=2",
        "after": [],
        "workers": [{"id": "1", "name": "w1", "fits": False, "why": "it has gpu=1 and not gpu=2"}],
    }
    assert (await client.get("/api/v1/jobs/9/explain")).status_code == 404


async def test_a_group_is_counted_by_state(client, queue: FakeQueue) -> None:
    add(queue, 0, 0, 3, None, group="a/b c")
    add(queue, None)
    counts = {"queued": 1, "running": 0, "succeeded": 2, "failed": 1, "cancelled": 0}
    response = await client.get("/api/v1/groups/a%2Fb%20c")
    assert response.json() == {"group": "a/b c", "total": 4, "counts": counts}
    for group in ("none", "", "a"):
        response = await client.get(f"/api/v1/groups/{group}")
        assert (response.status_code, response.json()["status"]) == (404, 404)


async def test_old_jobs_are_deleted(client, queue: FakeQueue) -> None:
    add(queue, 0, 0, 0, 1, None)
    body = {"older_than": 60, "keep_failed": True}
    counts = [(await client.post("/api/v1/prune", json=body)).json() for _ in range(3)]
    assert counts == [{"deleted": 2}, {"deleted": 1}, {"deleted": 0}]
    assert queue.prunes == [(60.0, True)] * 3
    assert set(queue.jobs) == {4, 5}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None), (b"{", 400, None), (b"{}", 422, "older_than"),
        (b'{"older_than": -1}', 422, "older_than"), (b'{"older_than": 1e300}', 422, "older_than"),
        (b'{"older_than": 1, "keep_faild": true}', 422, "keep_faild"),
        (b'{"older_than": 1, "keep_failed": 7}', 422, "keep_failed"), (b"[]", 422, "body"),
    ],
)  # fmt: skip
async def test_what_is_no_prune_deletes_nothing(client, queue, body, status, field) -> None:
    response = await client.post("/api/v1/prune", content=body)
    assert response.status_code == status
    if field is not None:
        assert response.json()["errors"][0]["field"] == field
    assert queue.prunes == []


async def test_a_retried_job_is_waited_for_again(client, queue: FakeQueue) -> None:
    add(queue, 1)
    await client.post("/api/v1/jobs/1/retry")
    states = []

    async def wait() -> None:
        states.append((await client.get("/api/v1/jobs/1?wait=60")).json()["state"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await queue.until(lambda: queue.waiters)
        queue.start(1)
        queue.finish(1)
    assert states == ["succeeded"]


async def test_who_waits_for_a_job_that_is_deleted_is_told(client, queue: FakeQueue) -> None:
    add(queue, None)
    statuses = []

    async def wait() -> None:
        statuses.append((await client.get("/api/v1/jobs/1?wait=60")).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await queue.until(lambda: queue.waiters)
        queue.finish(1)
        await queue.delete(1)
    assert statuses == [404]


@pytest.mark.parametrize("accept", ["text/event-stream", "application/vnd.msgpack"])
async def test_a_stream_of_a_job_that_is_deleted_ends_without_an_end(
    client: httpx2.AsyncClient, queue: FakeQueue, accept: str
) -> None:
    (job_id,) = queue.add(JobSpec(command="x"))
    queue.start(job_id)
    queue.write(job_id, "stdout", b"some")
    bodies = []

    async def follow() -> None:
        url = f"/api/v1/jobs/{job_id}/logs/stream"
        response = await client.get(url, headers={"Accept": accept})
        assert response.status_code == 200
        bodies.append(response.content)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await queue.until(lambda: queue.followers)
        queue.end_and_delete(job_id)
    (body,) = bodies
    if accept.endswith("msgpack"):
        unpacker = msgpack.Unpacker()
        unpacker.feed(body)
        assert all(item is None or isinstance(item, list) for item in unpacker)
    else:
        assert b"event: end" not in body
    assert json.loads((await client.get(f"/api/v1/jobs/{job_id}/logs")).content)["status"] == 404


async def test_an_output_whose_rest_is_deleted_is_not_taken_for_whole(
    served: Served, queue: FakeQueue, caplog: pytest.LogCaptureFixture
) -> None:
    (job_id,) = queue.add(JobSpec(command="x"))
    queue.start(job_id)
    queue.write(job_id, "stdout", b"some")

    async def delete() -> None:
        await queue.until(lambda: queue.followers)
        queue.end_and_delete(job_id)

    async with served.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(delete)
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(f"/api/v1/jobs/{job_id}/logs?follow=true")
    assert not caplog.records


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/jobs", "GET, POST"),
        ("PATCH", "/api/v1/jobs/1", "DELETE, GET"),
        ("DELETE", "/healthz", "GET"),
    ],
)
async def test_what_may_be_used_instead_is_said(client, method, path, allowed) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
