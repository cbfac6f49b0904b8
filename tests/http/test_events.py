"""Events over HTTP: what there is, then what comes; resumed by id; slow followers harm nobody."""

import gc
import json
import tracemalloc
from dataclasses import replace

import httpx2
import pytest
import trio

from queued_runner.events import Events
from queued_runner.http.routes_events import MAX_EVENTS, send_events
from queued_runner.jobs import JobSpec, JobState
from queued_runner.store.base import Stranded
from remote_runner.types import WorkerEvent
from tests.http.events import parse_events
from tests.http.fake_queue import FakeQueue
from tests.pure.records import running


def told(body: bytes) -> list[tuple[str, str]]:
    """The ids and names of a whole stream."""
    return [(place, kind) for kind, place, _ in parse_events(body)]


@pytest.fixture
def events(queue: FakeQueue) -> Events:
    """Some of two jobs and a worker."""
    events = queue.events
    events.tell_new(1, "n", "g")
    events.tell_worker(WorkerEvent.JOINED, queue.workers()[0])
    events.tell_new(2, None, None)
    return events


async def test_no_secret_of_a_job_is_told_and_its_group_finds_it_all_the_same(
    client: httpx2.AsyncClient, queue: FakeQueue
) -> None:
    spec = JobSpec(command="x", name="a hunter2", group="hunter2 g", mask=["hunter2"])
    job = running(spec)
    queue.events.tell_new(1, spec.name, spec.group, spec.mask)
    queue.events.tell_new(2, None, "g")
    queue.events.tell_run("job.started", job, "w")
    queue.events.tell_end(replace(job, state=JobState.FAILED))
    queue.events.tell_stranded(Stranded(1, spec.name, spec.group, 0, spec.mask))
    response = await client.get("/api/v1/events?follow=0&group=hunter2%20g")
    told = parse_events(response.content)
    assert [kind for kind, _, _ in told] == ["job.new", "job.started", "job.done", "job.done"]
    assert all((data["name"], data["group"]) == ("a ***", "*** g") for _, _, data in told)
    assert "hunter2" not in response.text + repr(Stranded(1, None, None, 0, spec.mask))


async def test_what_there_is_and_how_it_looks(client: httpx2.AsyncClient, events: Events) -> None:
    response = await client.get("/api/v1/events?follow=0")
    assert response.headers["content-type"].startswith("text/event-stream")
    at = "2023-11-14T22:13:20.000Z"
    assert parse_events(response.content) == [
        (
            "job.new",
            "b-1",
            {
                "id": "b-1", "event": "job.new", "at": at, "server": "",
                "job": 1, "group": "g", "name": "n",
            },
        ),
        (
            "worker.joined",
            "b-2",
            {
                "id": "b-2", "event": "worker.joined", "at": at, "server": "",
                "worker": "w1", "worker_id": "1", "slots": 4,
            },
        ),
        (
            "job.new",
            "b-3",
            {
                "id": "b-3", "event": "job.new", "at": at, "server": "",
                "job": 2, "group": None, "name": None,
            },
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "seen", "found"),
    [
        ("", None, ["b-1", "b-2", "b-3"]),
        ("", "b-1", ["b-2", "b-3"]),
        ("", "b-3", []),
        ("&group=g", None, ["b-1"]),
        ("&job=2", None, ["b-3"]),
        ("&job=2&group=g", None, []),
        ("&job=1", "b-1", []),
    ],
)
async def test_filters_and_resuming(
    client: httpx2.AsyncClient, events: Events, query: str, seen: str | None, found: list[str]
) -> None:
    headers = {} if seen is None else {"Last-Event-ID": seen}
    response = await client.get(f"/api/v1/events?follow=0{query}", headers=headers)
    assert [place for place, _ in told(response.content)] == found


@pytest.mark.parametrize("seen", ["other-3", "b-4", "b-999"])
async def test_what_nobody_can_tell_any_more_is_a_gap(
    client: httpx2.AsyncClient, events: Events, seen: str
) -> None:
    response = await client.get("/api/v1/events?follow=0", headers={"Last-Event-ID": seen})
    first, *rest = parse_events(response.content)
    assert first == ("gap", "b-0", {"id": "b-0", "event": "gap", "missed": None})
    assert [place for _, place, _ in rest] == ["b-1", "b-2", "b-3"]


async def test_what_was_forgotten_is_counted(
    client: httpx2.AsyncClient, queue: FakeQueue, events: Events
) -> None:
    queue.events = Events("b", lambda: 0.0, size=2)
    for number in range(1, 6):
        queue.events.tell_new(number, None, None)
    response = await client.get("/api/v1/events?follow=0", headers={"Last-Event-ID": "b-1"})
    assert told(response.content) == [("b-3", "gap"), ("b-4", "job.new"), ("b-5", "job.new")]
    assert parse_events(response.content)[0][2]["missed"] == 2


@pytest.mark.parametrize("seen", ["nonsense", "1", "b-", "b-x", "b-1-2", "-", "ü-1", "b" * 99])
async def test_an_id_that_is_none_is_refused(client: httpx2.AsyncClient, seen: str) -> None:
    headers = {"Last-Event-ID": seen.encode("latin-1")}
    response = await client.get("/api/v1/events?follow=0", headers=headers)
    assert response.status_code == 422
    assert "Last-Event-ID" in response.json()["detail"]


@pytest.mark.parametrize("query", ["job=0", "job=x", "follow=maybe", "grup=g"])
async def test_wrong_parameters_are_refused(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/api/v1/events?{query}")).status_code == 422


async def test_a_follower_hears_what_comes_until_the_server_stops(served) -> None:
    queue = served.queue
    queue.events.tell_new(1, None, None)
    async with served.client() as client:
        async with client.stream("GET", "/api/v1/events") as response:
            received = b""
            async for piece in response.aiter_raw():
                received += piece
                if b"id: b-1\n" in received and b"b-2" not in received:
                    queue.events.tell_new(2, None, None)
                if b"id: b-2\n" in received:
                    served.shutdown.set()
    assert told(received) == [("b-1", "job.new"), ("b-2", "job.new")]


async def collect(events: Events, *, until: int, wants=lambda event: True) -> bytes:
    """What a follower is sent, up to so many pieces."""
    pieces: list[bytes] = []

    async def push(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        pieces.append(data)
        if len(pieces) == until:
            scope.cancel()

    with trio.CancelScope() as scope:
        await send_events(events, None, wants, push, follow=True, keep_alive=15)
    return b"".join(pieces)


async def test_what_there_is_ends_also_while_more_comes() -> None:
    events = Events("b", lambda: 0.0)
    events.tell_new(1, None, None)
    pieces = []

    async def push(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        events.tell_new(2, None, None)
        pieces.append(data)

    with trio.fail_after(5):
        await send_events(events, None, lambda event: True, push, follow=False)
    assert told(b"".join(pieces))[0] == ("b-1", "job.new")


async def test_silence_is_kept_alive(autojump_clock: object) -> None:
    begun = trio.current_time()
    body = await collect(Events("b", lambda: 0.0), until=3)
    assert trio.current_time() - begun == 30
    assert body.count(b": keep-alive\n") == 2


async def test_the_place_moves_on_with_what_is_not_wanted(autojump_clock: object) -> None:
    """Else a follower of a quiet group on a busy server would come back to a gap."""
    events = Events("b", lambda: 0.0)

    async def be_busy() -> None:
        while True:
            await trio.sleep(1)
            events.tell_new(1, None, None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_busy)
        body = await collect(events, until=3, wants=lambda event: False)
        nursery.cancel_scope.cancel()
    places = [line for line in body.split(b"\n") if line.startswith(b"id: ")]
    assert len(places) == 2
    assert places[-1] in (b"id: b-29", b"id: b-30")


async def test_one_that_reads_nothing_costs_nothing_and_finds_a_gap(
    autojump_clock: object,
) -> None:
    events = Events("b", lambda: 0.0, size=1000)
    blocked, sent = trio.Event(), []

    async def push(data: bytes) -> None:
        sent.append(data)
        if len(sent) == 2:
            blocked.set()
            await go_on.wait()

    go_on = trio.Event()
    events.tell_new(0, None, None)
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            await send_events(events, None, lambda event: True, push, follow=True)

        nursery.start_soon(follow)
        await blocked.wait()
        for number in range(1000):
            events.tell_new(number, None, None)
        gc.collect()
        tracemalloc.start()
        for number in range(50_000):
            events.tell_new(number, None, None)
        grown = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert grown < 1_000_000  # those remembered, in place of the first thousand
    first, *rest = parse_events(b"".join(sent[2:]))
    assert (first[0], first[2]["missed"]) == ("gap", 50_000)
    assert [place for _, place, _ in rest] == [f"b-{50_001 + n}" for n in range(1, 1001)]
    assert max(map(len, sent)) < MAX_EVENTS * 200


async def test_jobs_of_the_queue_are_told_as_json_of_one_line(
    client: httpx2.AsyncClient, queue: FakeQueue
) -> None:
    (job_id,) = queue.add(JobSpec(command="x", group="a\u2028b", name="ü"))
    queue.finish(job_id, 3)
    queue.events.tell_end(queue.jobs[job_id])
    response = await client.get("/api/v1/events?follow=0")
    (line,) = [text for text in response.text.splitlines() if text.startswith("data: ")]
    data = json.loads(line.removeprefix("data: "))
    assert (data["event"], data["state"], data["exit_code"]) == ("job.done", "failed", 3)
    assert (data["group"], data["name"]) == ("a\u2028b", "ü")
