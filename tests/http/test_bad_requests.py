"""Requests that are wrong in every way: each gets a sentence, and the server goes on."""

import httpx2
import pytest
import trio

from queued_runner.jobs import JobSpec
from tests.http.fake_queue import FakeQueue
from tests.http.serving import TOKEN, Served

BAD_VALUES = {
    "command": ["", 1, None, "a\0", "x" * 131_073, ["a"]],
    "args": ["a", [1], ["\0"], ["a"] * 1025, None, {}],
    "name": ["", "a\n", "x" * 257, 1],
    "group": ["", "\t", 1],
    "key": ["", "x" * 257, {}],
    "cwd": ["", "\0", 1],
    "env": [{"": "1"}, {"A=B": "1"}, {"A": 1}, {"A": "\0"}, {"\0": ""}, [], "A=1"],
    "shell": [1.5, [], "\0"],
    "stdin": [1, [], {"base64": "?"}, {"base64": 1}, {"text": "x"}, "x" * (4 * 1024 * 1024 + 1)],
    "priority": [1.5, "high", 1_000_001, -1_000_001, None],
    "timeout": [0, -1, "soon", 1e300, []],
    "kill_signal": ["TERM", "SIG", "SIGterm", 9, "SIGTERM\n", "SIGTERN", "SIG_DFL", "SIGRTMIN+99"],
    "kill_grace": [-1, "x", 1e300],
    "retries": [-1, 1001, 0.5],
    "backoff": [-0.1, "x"],
    "max_backoff": [-0.1, None],
    "on_lost": ["", "RETRY", 1],
    "detach": [-1, {}],
    "needs": [{"": "x"}, {"a": 1}, {"a\n": "x"}, [], {str(n): "" for n in range(33)}],
    "slots": [0, -1, 1001, 1.5, None, "x"],
    "after": [
        1,
        "k",
        [0],
        [-1],
        [1.0],
        [True],
        [None],
        [[1]],
        [""],
        ["x" * 257],
        [1 << 63],
        list(range(1, 10_002)),
        [{}] * 30,
        {},
    ],
    "delay": [-1, "x"],
    "max_log_size": [-1, 1.5, (1 << 40) + 1],
    "max_results_size": [-1, 1.5, (1 << 40) + 1],
    "mask": [
        "abc",
        ["ab"],
        [" ab\n"],
        [""],
        ["a\0bc"],
        [1],
        [None],
        {},
        ["abc"] * 65,
        ["x" * 16_385],
    ],
}
CASES = [(field, value) for field, values in BAD_VALUES.items() for value in values]


def test_every_field_is_tried() -> None:
    assert set(BAD_VALUES) == set(JobSpec.model_fields)


@pytest.mark.parametrize(
    ("field", "value"), CASES, ids=[f"{field}-{str(value)[:20]!r}" for field, value in CASES]
)
async def test_a_bad_field_is_named(
    client: httpx2.AsyncClient, queue: FakeQueue, field: str, value: object
) -> None:
    response = await client.post("/api/v1/jobs", json={"command": "true", field: value})
    assert response.status_code == 422
    problem = response.json()
    assert all(error["field"].split(".")[0].split("[")[0] == field for error in problem["errors"])
    assert problem["detail"].startswith(field)
    assert len(response.content) < 4096  # what was sent is not sent back
    assert not queue.jobs


@pytest.mark.parametrize("key", ["", "k" * 257, "a\tb"])
async def test_a_bad_idempotency_key_is_named(client, queue: FakeQueue, key: str) -> None:
    response = await client.post(
        "/api/v1/jobs", json={"command": "true"}, headers={"Idempotency-Key": key}
    )
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "Idempotency-Key"
    assert not queue.jobs


async def test_the_key_of_the_body_wins_over_the_header(client, queue: FakeQueue) -> None:
    body = {"command": "true", "key": "own"}
    await client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "other"})
    assert queue.jobs[1].spec.key == "own"


@pytest.mark.parametrize(
    "job_id",
    ["0", "-1", str(1 << 63), "9" * 400, "x", "1.5", "1e3", "٣", "%00", "1%2F2", "..", "%2e%2e",
     ""],
)  # fmt: skip
@pytest.mark.parametrize(
    "rest", ["", "/attempts", "/logs", "/logs/stream", "/explain", "/cancel", "/retry", "DELETE"]
)
async def test_an_id_that_is_none(client, job_id: str, rest: str) -> None:
    method = "POST" if rest in ("/cancel", "/retry") else "GET"
    if rest == "DELETE":
        method, rest = rest, ""
    response = await client.request(method, f"/api/v1/jobs/{job_id}{rest}")
    if job_id in ("", "..", "%2e%2e"):  # another path
        assert response.status_code in (200, 404, 405, 422)
    else:
        assert response.status_code in (404, 422)
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("limit=", "limit"),
        ("limit=-5", "limit"), ("before=0", "before"), ("before=x", "before"),
        ("before=99999999999999999999", "before"), ("state=RUNNING", "state"), ("state=", "state"),
    ],
)  # fmt: skip
async def test_garbage_in_a_list_query_is_named(client, query: str, field: str) -> None:
    response = await client.get(f"/api/v1/jobs?{query}")
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "query", ["attempt=0", "attempt=x", "offset=-1", "offset=x", "limit=-1", "stream=out"]
)
async def test_garbage_in_a_log_query_is_named(client, queue: FakeQueue, query: str) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    response = await client.get(f"/api/v1/jobs/1/logs?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("/api/v1/jobs?grup=a", "grup", "did you mean 'group'?"),
        ("/api/v1/jobs/1?wiat=1", "wiat", "did you mean 'wait'?"),
        ("/api/v1/jobs/1/attempts?x", "x", "there is no such parameter"),
        ("/api/v1/jobs/1/logs?taill=1&limit=1", "taill", "did you mean 'tail'?"),
        ("/api/v1/jobs/1/logs/stream?Offset=1", "Offset", "did you mean 'offset'?"),
        ("/api/v1/workers?state=ready", "state", "there is no such parameter"),
    ],
)
async def test_a_parameter_that_there_is_not_is_named(
    client, queue: FakeQueue, path: str, name: str, words: str
) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    response = await client.get(path)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [name]
    assert words in response.json()["detail"]


async def test_no_parameter_of_a_submission_is_ignored(client, queue: FakeQueue) -> None:
    response = await client.post("/api/v1/jobs?key=a", json={"command": "a"})
    assert response.status_code == 422
    assert not queue.jobs


async def test_a_health_check_may_add_what_it_likes(client) -> None:
    for path in ("/healthz?now=1", "/readyz?now=1"):
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", "inf"])
async def test_garbage_in_wait_is_named(client, queue: FakeQueue, wait: str) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    response = await client.get(f"/api/v1/jobs/1?wait={wait}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "wait"


@pytest.mark.parametrize(
    "path",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/api/v1/jobs/",
     "/api/v1/jobs/1/logs/../../../token", "/api//v1/jobs", "/openapi.json/", "/%00", "/%ff"],
)  # fmt: skip
async def test_other_paths_lead_nowhere(client, path: str) -> None:
    response = await client.get(path)
    assert response.status_code in (404, 422)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "PUT", "DELETE", "BREW"])
@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/workers", "/healthz"])
async def test_other_methods_are_refused(client, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"]
    assert response.headers["content-type"] == "application/problem+json"


async def exchange(served: Served, *pieces: bytes) -> bytes:
    """What comes back for raw bytes, until the server closes."""
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        try:
            for piece in pieces:
                await stream.send_all(piece)
            while data := await stream.receive_some(65_536):
                received += data
        except trio.BrokenResourceError:
            pass  # it closed while we still sent
    return received


def post(served: Served, *lines: str) -> bytes:
    head = (
        "POST /api/v1/jobs HTTP/1.1", f"Host: 127.0.0.1:{served.port}", "Connection: close",
        f"Authorization: Bearer {TOKEN}", *lines,
    )  # fmt: skip
    return "\r\n".join((*head, "", "")).encode()


async def test_chunked_bodies(served: Served, queue: FakeQueue) -> None:
    head = post(served, "Transfer-Encoding: chunked")
    answer = await exchange(
        served, head, b'a\r\n{"command"\r\n', b'8\r\n:"true"}\r\n', b"0\r\n\r\n"
    )
    assert b" 201 " in answer
    assert queue.jobs[1].spec.command == "true"
    for rubbish in (b"zz\r\n", b"-5\r\nx", b"f" * 21 + b"\r\n"):
        answer = await exchange(served, head, rubbish)
        assert b" 201 " not in answer
    assert len(queue.jobs) == 1


@pytest.mark.parametrize("line", ["X: " + "y" * 1_000_000, "\r\n".join(["X: y"] * 20_000)])
async def test_huge_headers_cost_their_connection(served: Served, line: str) -> None:
    answer = await exchange(served, post(served, line))
    assert b" 201 " not in answer
    async with served.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_two_lengths_are_not_taken(served: Served, queue: FakeQueue) -> None:
    for lines in (
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 18", "Transfer-Encoding: chunked"),
        ("Content-Length: -1",),
        ("Content-Length: x",),
    ):
        await exchange(served, post(served, *lines), b'{"command":"true"}\r\n')
    assert not queue.jobs
