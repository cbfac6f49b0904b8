"""The last lines of an output, over HTTP."""

import pytest


async def test_the_route(client, queue) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    queue.start(1)
    for index in range(2000):
        queue.write(1, "stdout" if index % 2 else "stderr", b"%03d\n" % (index % 1000))
    for query, body, offset in [
        ("tail=2", b"998\n999\n", 7992),
        ("tail=2&stream=stderr", b"996\n998\n", 7984),
        ("tail=0", b"", 8000),
        ("tail=2&limit=4", b"998\n", 7992),
        ("tail=2&offset=7997", b"99\n", 7997),
        ("tail=2&limit=0", b"", 7992),
    ]:
        response = await client.get(f"/api/v1/jobs/1/logs?{query}")
        assert (response.status_code, response.content) == (200, body)
        assert response.headers["x-log-offset"] == str(offset)


@pytest.mark.parametrize("tail", ["-1", "x", "100001", "1.5", ""])
async def test_garbage_is_refused_by_name(client, queue, tail: str) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    response = await client.get(f"/api/v1/jobs/1/logs?tail={tail}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "tail"
