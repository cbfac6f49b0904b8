"""Output over HTTP: exact bytes, exact offsets, live streams that resume from any event."""

import httpx2
import msgpack
import pytest
import trio
import trio.testing

from queued_runner.http.frames import SseEncoder
from queued_runner.http.stream import send_records
from tests.http.events import bytes_of, parse_events
from tests.http.fake_queue import FakeQueue


async def submit(client: httpx2.AsyncClient, queue: FakeQueue) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    queue.start(1)


async def test_raw_log(client, queue: FakeQueue) -> None:
    await submit(client, queue)
    for stream, data in (("stdout", b"abc"), ("stderr", b"\xff12"), ("stdout", b"def")):
        queue.write(1, stream, data)
    for query, body, following, complete in [
        ("", b"abc\xff12def", 9, "false"),
        ("?offset=2&limit=3", b"c\xff1", 5, "false"),
        ("?stream=stdout", b"abcdef", 9, "false"),
        ("?stream=stdout&limit=3", b"abc", 3, "false"),
        ("?offset=9", b"", 9, "false"),
        ("?limit=0", b"", 0, "false"),
    ]:
        response = await client.get(f"/api/v1/jobs/1/logs{query}")
        assert (response.status_code, response.content) == (200, body)
        assert response.headers["x-log-next"] == str(following)
        assert response.headers["x-log-complete"] == complete
    queue.finish(1)
    for query, complete in (("", "true"), ("?limit=9", "true"), ("?limit=8", "false")):
        response = await client.get(f"/api/v1/jobs/1/logs{query}")
        assert response.headers["x-log-complete"] == complete
    assert (await client.get("/api/v1/jobs/1/logs?attempt=2")).status_code == 404


async def test_a_large_log_is_exact(client, queue: FakeQueue) -> None:
    await submit(client, queue)
    parts = [bytes([index]) * 300_000 for index in range(10)]
    for part in parts:
        queue.write(1, "stdout", part)
    queue.finish(1)
    response = await client.get("/api/v1/jobs/1/logs?offset=1&limit=2500000")
    assert response.content == b"".join(parts)[1:2_500_001]
    assert response.headers["content-length"] == "2500000"
    assert response.headers["x-log-next"] == "2500001"


async def test_follow_until_the_end(served) -> None:
    async with served.client() as client:
        await submit(client, served.queue)
        url = "/api/v1/jobs/1/logs?follow=1&stream=stdout"
        async with client.stream("GET", url) as response:
            served.queue.write(1, "stdout", b"one")
            received = response.aiter_raw()
            assert await anext(received) == b"one"
            served.queue.write(1, "stderr", b"no")
            served.queue.write(1, "stdout", b"two")
            served.queue.finish(1)
            assert b"".join([data async for data in received]) == b"two"


async def test_msgpack_stream_waits_for_the_start(served) -> None:
    async with served.client() as client:
        await client.post("/api/v1/jobs", json={"command": "a"})
        headers = {"Accept": "application/vnd.msgpack"}
        async with client.stream("GET", "/api/v1/jobs/1/logs/stream", headers=headers) as response:
            assert response.headers["content-type"] == "application/vnd.msgpack"
            served.queue.start(1)
            served.queue.write(1, "stdout", b"\x00\xff")
            served.queue.write(1, "stderr", b"e")
            served.queue.finish(1, 4)
            unpacker = msgpack.Unpacker()
            unpacker.feed(await response.aread())
    items = [item for item in unpacker if item is not None]
    assert items[:2] == [[0, 5, "stdout", b"\x00\xff"], [2, 5, "stderr", b"e"]]
    assert (items[2]["state"], items[2]["exit_code"]) == ("failed", 4)


async def test_a_follower_of_an_attempt_that_never_comes_hears_of_the_end(
    client, queue: FakeQueue
) -> None:
    await submit(client, queue)
    queue.finish(1, 1)
    url = "/api/v1/jobs/1/logs/stream"
    events = parse_events((await client.get(f"{url}?attempt=2")).content)
    assert [(name, data["state"]) for name, _, data in events] == [("end", "failed")]
    for query in ("attempt=2&follow=0", "attempt=3"):
        assert (await client.get(f"{url}?{query}")).status_code == 404


async def test_a_character_is_not_split(client, queue: FakeQueue) -> None:
    await submit(client, queue)
    for byte in "aé😀".encode():
        queue.write(1, "stdout", bytes([byte]))
    queue.finish(1)
    events = parse_events((await client.get("/api/v1/jobs/1/logs/stream")).content)
    texts = [(data["text"], at) for name, at, data in events if name == "stdout"]
    assert texts == [("a", "1"), ("é", "3"), ("😀", "7")]
    assert events[-1][0] == "end"
    assert events[-1][2]["state"] == "succeeded"
    headers = {"Last-Event-ID": "3"}
    again = await client.get("/api/v1/jobs/1/logs/stream?offset=0", headers=headers)
    assert bytes_of(parse_events(again.content), "stdout") == "😀".encode()


async def test_every_event_is_a_point_to_resume_from(client, queue: FakeQueue) -> None:
    await submit(client, queue)
    smile = "😀".encode()
    for stream, data in [
        ("stdout", b"x" + smile[:2]),
        ("stderr", b"e"),
        ("stdout", smile[2:3]),
        ("stderr", "é".encode()[:1]),
        ("stdout", smile[3:] + b"y"),
        ("stderr", "é".encode()[1:] + b"\xff\n"),
        ("stdout", smile[:3]),
        ("stderr", b"z"),
    ]:
        queue.write(1, stream, data)
    queue.finish(1)
    url = "/api/v1/jobs/1/logs/stream"
    events = parse_events((await client.get(url)).content)
    whole = {name: bytes_of(events, name) for name in ("stdout", "stderr")}
    assert whole["stdout"] == b"x" + smile + b"y" + smile[:3]
    assert whole["stderr"] == "eé".encode() + b"\xff\nz"
    for index, (_, point, _) in enumerate(events):
        for query, headers in (("", {"Last-Event-ID": point}), (f"?offset={point}", {})):
            rest = parse_events((await client.get(url + query, headers=headers)).content)
            for name, data in whole.items():
                assert bytes_of(events[: index + 1], name) + bytes_of(rest, name) == data, point


async def test_what_was_kept_and_is_not_stored_yet_comes_later(client, queue: FakeQueue) -> None:
    """The server was killed: it had sent what its worker has to send again."""
    await submit(client, queue)
    url = "/api/v1/jobs/1/logs/stream"
    answer = []

    async def follow() -> None:
        headers = {"Last-Event-ID": "5~1-2"}
        answer.append(await client.get(url, headers=headers))

    queue.write(1, "stdout", b"a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        queue.write(1, "stdout", b"\xc3")
        queue.write(1, "stderr", b"bbb")
        queue.write(1, "stdout", b"\xa9c")
        queue.finish(1)
    events = parse_events(answer[0].content)
    assert bytes_of(events, "stdout").decode() == "éc"
    assert bytes_of(events, "stderr") == b""


async def test_dropped_output_is_a_gap_before_the_end(client, queue: FakeQueue) -> None:
    await submit(client, queue)
    smile = "😀".encode()
    queue.write(1, "stdout", b"a")
    queue.write(1, "stderr", smile[:2])  # the limit cut this character
    queue.finish(1, 1, retry=True, dropped=7)
    queue.start(1)
    queue.finish(1)
    url = "/api/v1/jobs/1/logs/stream?attempt=1"
    events = parse_events((await client.get(url)).content)
    assert [name for name, _, _ in events] == ["stdout", "stderr", "gap", "end"]
    assert events[2][1:] == ("10", {"from": 3, "to": 10})
    for index, (_, point, _) in enumerate(events):
        again = await client.get(url, headers={"Last-Event-ID": point})
        names = [name for name, _, _ in parse_events(again.content)]
        assert names == ([name for name, _, _ in events[index + 1 :]] or ["end"])
    whole = parse_events((await client.get("/api/v1/jobs/1/logs/stream")).content)
    assert [name for name, _, _ in whole] == ["end"]  # the newest attempt dropped nothing


@pytest.mark.parametrize(
    "text", ["", "-1", "x", "1~", "5~2-2", "5~4-9", "9" * 19, "٣", "1~0-1" * 9, "9~0-7"]
)
async def test_odd_points_are_refused(client, queue: FakeQueue, text: str) -> None:
    await submit(client, queue)
    response = await client.get("/api/v1/jobs/1/logs/stream", params={"offset": text})
    assert response.status_code == 422


async def test_a_silent_stream_says_that_it_lives(queue: FakeQueue, autojump_clock) -> None:
    from queued_runner.jobs import JobSpec

    await queue.submit_many([JobSpec(command="a")])
    queue.start(1)
    frames: list[bytes] = []

    async def push(data: bytes) -> None:
        frames.append(data)

    with trio.move_on_after(50):
        await send_records(queue, 1, SseEncoder(), push, attempt=1, offset=0)
    assert frames == [b"retry: 1000\n\n"] + [b": keep-alive\n\n"] * 3


async def test_streams_end_with_the_server(served) -> None:
    async with served.client() as client:
        await submit(client, served.queue)
        async with client.stream("GET", "/api/v1/jobs/1/logs/stream") as response:
            served.shutdown.set()
            assert parse_events(await response.aread()) == []
    await served.ended.wait()


async def test_a_stream_goes_on_over_attempts(client, queue: FakeQueue) -> None:
    """As an `EventSource` does it: the same address again and again, and the id that came last."""
    await submit(client, queue)
    queue.write(1, "stdout", b"first")
    queue.finish(1, 3, retry=True)
    seen, last = [], {}
    for number in range(4):
        if number == 1:
            queue.start(1)
            queue.write(1, "stdout", b"2nd")
            queue.finish(1)
        answer = await client.get("/api/v1/jobs/1/logs/stream", headers=last)
        events = parse_events(answer.content)
        seen.append(bytes_of(events, "stdout"))
        last = {"Last-Event-ID": events[-1][1]}
    assert seen == [b"first", b"2nd", b"", b""]
    assert last == {"Last-Event-ID": "2:3"}
    for offset, text in (("0", b"2nd"), ("2:1", b"nd")):
        answer = await client.get(f"/api/v1/jobs/1/logs/stream?offset={offset}")
        assert bytes_of(parse_events(answer.content), "stdout") == text
