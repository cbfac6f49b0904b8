"""Results over HTTP: a list, exact bytes, headers that keep a browser from showing them."""

import pytest

from remote_runner.results import LeftOut
from tests.http.fake_queue import FakeQueue

FILES = {
    "junit.xml": b"<xml/>",
    "a/b c.txt": b"",
    "ä €/100%?#.html": b"<script>alert(1)</script>",
    "big": bytes(range(256)) * 4000,
}


async def leave(client, queue: FakeQueue) -> None:
    """Job 1 has ended, and left these files."""
    await client.post("/api/v1/jobs", json={"command": "a"})
    queue.start(1)
    queue.finish(1)
    queue.left[1, 1] = FILES
    queue.left_out[1, 1] = [LeftOut("core", "it is a link")]


async def test_the_list(client, queue: FakeQueue) -> None:
    await leave(client, queue)
    answer = await client.get("/api/v1/jobs/1/results")
    assert answer.json() == [{"name": name, "size": len(data)} for name, data in FILES.items()]
    assert answer.headers["x-results-attempt"] == "1"
    assert answer.headers["x-results-left-out"] == "1"
    answer = await client.get("/api/v1/jobs/1/results?left_out=1")
    assert answer.json() == [{"name": "core", "why": "it is a link"}]


@pytest.mark.parametrize("name", FILES)
async def test_each_file_is_exact(served, queue: FakeQueue, name: str) -> None:
    async with served.client() as client:
        await leave(client, queue)
        path = "/".join(part.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
                        for part in name.split("/"))  # fmt: skip
        answer = await client.get(f"/api/v1/jobs/1/results/{path}")
        assert (answer.status_code, answer.content) == (200, FILES[name])
        assert answer.headers["content-length"] == str(len(FILES[name]))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert "/" not in answer.headers["content-disposition"]


async def test_a_name_in_a_header_is_one_header(client, queue: FakeQueue) -> None:
    await leave(client, queue)
    queue.left[1, 1] = {'x"; filename=evil.exe': b"1"}
    answer = await client.get('/api/v1/jobs/1/results/x"; filename=evil.exe')
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''x%22%3B%20filename%3Devil.exe"
    )


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("1/results/no", 404, "Attempt 1 of job 1 left no result 'no'"),
        ("1/results/", 404, "left no result ''"),
        ("1/results/..%2F..%2Fetc%2Fpasswd", 404, "left no result '../../etc/passwd'"),
        ("1/results//etc/passwd", 404, "left no result '/etc/passwd'"),
        ("1/results/core", 404, "'core' of job 1 was left out: it is a link."),
        ("1/results/junit.xml?attempt=2", 404, "there is no 2 yet"),
        ("1/results?attempt=2", 404, "there is no 2 yet"),
        ("1/results?attempt=0", 422, "attempt"),
        ("1/results?left=1", 422, "left_out"),
        ("9/results", 404, "There is no job 9"),
        ("9/results/junit.xml", 404, "There is no job 9"),
        ("x/results", 422, "job_id"),
    ],
)
async def test_what_there_is_not(client, queue: FakeQueue, path, status, words) -> None:
    await leave(client, queue)
    answer = await client.get(f"/api/v1/jobs/{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.text


async def test_a_file_that_is_gone(client, queue: FakeQueue) -> None:
    await leave(client, queue)
    queue.has_lost_results = True
    answer = await client.get("/api/v1/jobs/1/results/junit.xml")
    assert answer.status_code == 410
    assert "does not have this result any more" in answer.text


async def test_a_running_attempt_has_none_yet(client, queue: FakeQueue) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    for _ in range(2):
        answer = await client.get("/api/v1/jobs/1/results")
        assert (answer.status_code, answer.json()) == (200, [])
        queue.start(1)


async def test_those_of_an_earlier_attempt(client, queue: FakeQueue) -> None:
    await leave(client, queue)
    queue.start(1)
    assert (await client.get("/api/v1/jobs/1/results")).json() == []
    answer = await client.get("/api/v1/jobs/1/results/junit.xml?attempt=1")
    assert answer.content == b"<xml/>"
