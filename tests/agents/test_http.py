"""The routes of agents: who may use them, and what is answered to whatever is sent."""

import gzip
import json
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio

from queued_runner.http.agent_bodies import MAX_TOLD
from queued_runner.http.app import create_app
from queued_runner.http.server import bind, serve_http
from tests.agents.conftest import AgentBench
from tests.commands import PATIENCE
from tests.http.fake_queue import FakeQueue

TOKEN = "test-token"


class Door:
    """The application over a bench, as programs at some address see it."""

    def __init__(self, app):
        self._app = app

    async def _answer(self, scope, receive, send):
        await self._app(scope, receive, send)
        # What is refused is not read to its end; a connection would be closed, this is a generator.
        while (await receive())["type"] == "http.request":
            pass

    def client(self, address="127.0.0.1", **headers):
        transport = httpx2.ASGITransport(self._answer, client=(address, 5))
        return httpx2.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8633", headers=headers
        )


@pytest.fixture
async def opened(tmp_path):
    bench = AgentBench(tmp_path)
    async with bench.server() as agents:
        bench.app = create_app(
            FakeQueue(), token=TOKEN, port=8633, shutdown=trio.Event(), agents=agents,
            cors_origins=["https://ci.example"],
        )  # fmt: skip
        yield bench


@pytest.fixture
def client(opened):
    return Door(opened.app).client()


async def pull(client):
    answer = await client.post("/tasks/pull")
    assert answer.status_code == 200
    return answer.json()


ROUTES = [
    ("POST", "/tasks/pull"),
    ("POST", "/tasks/65537/logs"),
    ("PATCH", "/tasks/65537/status"),
    ("POST", "/tasks/65537/heartbeat"),
]


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_who_may_use_them(opened, method, route):
    door = Door(opened.app)

    async def status(address="127.0.0.1", **headers):
        async with door.client(address, **headers) as client:
            return (await client.request(method, route, json={})).status_code

    assert await status() not in (401, 403, 421)
    assert await status("::1") not in (401, 403, 421)
    assert await status("192.0.2.1") == 401
    assert await status("192.0.2.1", authorization=f"Bearer {TOKEN}") not in (401, 403, 421)
    assert await status(host="evil.example") == 421
    assert await status(origin="http://evil.example") == 403
    assert await status(**{"sec-fetch-site": "cross-site"}) == 403
    for origin in ("https://ci.example", "http://127.0.0.1:8633"):  # pages always need the token
        assert await status(origin=origin) == 401


@pytest.mark.parametrize(("method", "route"), ROUTES)
async def test_without_the_option_there_are_none(method, route):
    app = create_app(FakeQueue(), token=TOKEN, port=8633, shutdown=trio.Event())
    async with Door(app).client() as client:
        assert (await client.request(method, route)).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.request(method, route, headers=headers)).status_code == 404


async def test_other_routes_need_the_token_all_the_same(client):
    for route in ("/api/v1/jobs", "/tasks", "/TASKS/pull", "/openapi.json"):
        assert (await client.get(route)).status_code == 401


async def test_a_task_from_its_pull_to_its_end(opened, client):
    assert await pull(client) is None
    job_id = opened.add("echo", args=("hello",))
    task = await pull(client)
    assert task.keys() == {"id", "command", "status", "createdAt", "updatedAt", "deletedAt"}
    assert (task["status"], task["deletedAt"]) == ("in_progress", None)
    path = f"/tasks/{task['id']}"
    body = gzip.compress(json.dumps({"kind": "stdout", "index": 0, "content": "a\nä"}).encode())
    for _ in range(2):
        answer = await client.post(f"{path}/logs", content=body,
                                   headers={"Content-Encoding": "gzip"})  # fmt: skip
        assert (answer.status_code, answer.json()) == (200, {})
    answer = await client.post(f"{path}/logs", json={"kind": "stderr", "index": 0, "content": ""})
    assert answer.json() == {}
    answer = await client.post(f"{path}/heartbeat")
    assert answer.json() == {}
    for _ in range(2):
        answer = await client.patch(f"{path}/status", json={"status": "succeeded"})
        assert (answer.status_code, answer.json()) == (200, {})
    job = await opened.end_of(job_id)
    assert job.state == "succeeded"
    assert await opened.output(job_id) == [("stdout", "a\nä\n".encode()), ("stderr", b"\n")]
    answer = await client.patch(f"{path}/status", json={"status": "failed"})
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith(".")


async def test_a_chunk_before_its_turn_is_to_be_sent_again_and_one_given_up_is_refused(
    opened, client, monkeypatch
):
    monkeypatch.setattr("queued_runner.agents.runner.GAP", 0.01)
    monkeypatch.setattr("queued_runner.agents.run.GAP", 0.01)
    job_id = opened.add("true")
    path = f"/tasks/{(await pull(client))['id']}"
    chunks = [{"kind": "stdout", "index": index, "content": str(index)} for index in range(2)]
    answer = await client.post(f"{path}/logs", json=chunks[1])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "waits for chunk 0" in answer.json()["detail"]
    await client.patch(f"{path}/status", json={"status": "succeeded"})
    await opened.end_of(job_id)
    answer = await client.post(f"{path}/logs", json=chunks[0])
    assert (answer.status_code, answer.headers.get("retry-after")) == (409, None)
    assert "too late" in answer.json()["detail"]
    answer = await client.post(f"{path}/logs", json=chunks[1])
    assert answer.json() == {}


@pytest.mark.parametrize(
    ("what", "body", "status"),
    [
        ("logs", {"kind": "stdout", "index": 0}, 422),
        ("logs", {"kind": "stdout", "index": 0, "content": "x", "base64": ""}, 422),
        ("logs", {"kind": "stdin", "index": 0, "content": "x"}, 422),
        ("logs", {"kind": "stdout", "index": -1, "content": "x"}, 422),
        ("logs", {"kind": "stdout", "index": 1 << 60, "content": "x"}, 422),
        ("logs", {"kind": "stdout", "index": 0, "base64": "%%%"}, 422),
        ("logs", {"kind": "stdout", "index": 0, "base64": ""}, 422),
        ("logs", {"kind": "stdout", "index": 0, "content": "x" * (5 << 20)}, 413),
        ("logs", [], 422),
        ("status", {"status": "in_progress"}, 422),
        ("status", {"status": "failed", "reason": "worker-lost"}, 422),
        ("status", {"status": "failed", "exit_code": 256}, 422),
        ("status", {}, 422),
        ("heartbeat", {"wait": 21}, 422),
        ("heartbeat", {"wait": "NaN"}, 422),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_happens(opened, client, what, body, status):
    job_id = opened.add()
    task = await pull(client)
    method = "PATCH" if what == "status" else "POST"
    answer = await client.request(method, f"/tasks/{task['id']}/{what}", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert opened.job(job_id).state == "running"
    assert await opened.output(job_id) == []


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        ({"content": 5}, "content: expected `str | null`, got `int`"),
        ({"base64": ""}, "base64: expected `bytes` of length >= 1"),
        ({"base64": "%%%"}, "base64: invalid base64"),
        ({"index": "SECRET"}, "index: expected `int`, got `str`"),
        ({"kind": "SECRET"}, "kind: there is no such value"),
        ({}, "either content or base64 is needed"),
    ],
)
async def test_what_is_wrong_with_a_chunk_is_said_in_words(opened, client, chunk, words):
    opened.add()
    path = f"/tasks/{(await pull(client))['id']}/logs"
    answer = await client.post(path, json={"kind": "stdout", "index": 0, **chunk})
    assert words in answer.json()["detail"]
    assert "SECRET" not in answer.text


async def test_a_bomb_is_refused_and_so_is_what_is_not_gzip(opened, client):
    opened.add()
    path = f"/tasks/{(await pull(client))['id']}/logs"
    bomb = gzip.compress(b"\0" * (17 << 20))
    for content, status in ((bomb, 413), (b"no gzip", 400), (bomb[:500], 400), (b"{}", 400)):
        answer = await client.post(path, content=content, headers={"Content-Encoding": "gzip"})
        assert answer.status_code == status
    answer = await client.post(path, content=b'{"kind":')
    assert answer.status_code == 400


async def test_only_output_may_be_long(opened, client):
    opened.add()
    task = (await pull(client))["id"]
    long = b'{"x":"%s"}' % (b"x" * MAX_TOLD)
    for method, path in (
        ("POST", "/tasks/pull"), ("PATCH", f"/tasks/{task}/status"),
        ("POST", f"/tasks/{task}/heartbeat"),
    ):  # fmt: skip
        assert (await client.request(method, path, content=long)).status_code == 413


@pytest.mark.parametrize("task", ["1", "65537", "9007199254740991"])
async def test_a_task_that_there_is_not(client, task):
    chunk = {"kind": "stdout", "index": 0, "content": "x"}
    answers = [
        await client.post(f"/tasks/{task}/logs", json=chunk),
        await client.patch(f"/tasks/{task}/status", json={"status": "failed"}),
        await client.post(f"/tasks/{task}/heartbeat"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 3


@pytest.mark.parametrize("task", ["0", "-1", "x", "9007199254740992"])
async def test_what_is_no_number_of_a_task(client, task):
    assert (await client.post(f"/tasks/{task}/heartbeat")).status_code == 422


async def test_a_heartbeat_that_waits_hears_of_a_cancel_at_once(opened, client):
    job_id = opened.add()
    task = await pull(client)
    answers = []

    async def beat():
        answer = await client.post(f"/tasks/{task['id']}/heartbeat", json={"wait": 20})
        answers.append(answer.json())

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            await opened.dispatcher.cancel(job_id, "SIGINT", 2.5)
    assert answers == [{"cancel": True, "signal": "SIGINT", "grace": 2.5}]


@asynccontextmanager
async def on_a_socket(bench, run_sync):
    """The application on a real port, over a store whose commits run as `run_sync` says."""
    sock = bind("127.0.0.1", 0)
    shutdown = trio.Event()
    async with bench.server(run_sync=run_sync) as agents:
        port = sock.getsockname()[1]
        app = create_app(FakeQueue(), token=TOKEN, port=port, shutdown=shutdown, agents=agents)
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status):
                await serve_http(sock, app, shutdown=shutdown, task_status=task_status)

            await nursery.start(serve)
            yield port
            shutdown.set()


async def test_an_agent_that_leaves_while_it_pulls_loses_no_job(tmp_path):
    bench = AgentBench(tmp_path)
    may_commit, is_asked = trio.Event(), trio.Event()
    may_commit.set()

    async def held_up(commit):
        is_asked.set()
        await may_commit.wait()
        return commit()

    async with on_a_socket(bench, held_up) as port:
        job_id = bench.add()
        may_commit, is_asked = trio.Event(), trio.Event()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        head = f"POST /tasks/pull HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n"
        await stream.send_all(head.encode())
        await is_asked.wait()
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
        may_commit.set()
        with trio.fail_after(PATIENCE):
            while (bench.job(job_id).state, bench.job(job_id).attempt) != ("queued", 1):
                await trio.sleep(0.01)
        assert bench.job(job_id).losses == 0
