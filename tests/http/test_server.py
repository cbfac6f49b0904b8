"""The accept loop on a real socket: rubbish costs one connection, stopping is bounded."""

import gzip
import random
import socket
from contextlib import aclosing, suppress

import pytest
import trio

from queued_runner.http.connection import HEAD_SECONDS, LINGER_SECONDS
from queued_runner.http.server import bind, serve_http
from tests.commands import PATIENCE
from tests.http.serving import TOKEN

GOOD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n"
SEEDS = [
    b"",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"X: \xff\xfe\r\n",
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff"


async def received(stream: trio.SocketStream) -> bytes:
    """All that comes until the server ends the connection."""
    return b"".join([data async for data in stream])


async def throw(port: int, data: bytes) -> None:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(data)
            await stream.send_eof()
            await received(stream)
    except (trio.BrokenResourceError, OSError):
        pass


def mutated(rng: random.Random, port: int) -> bytes:
    data = bytearray(GOOD % (port, rng.choice(SEEDS)))
    if rng.random() < 0.1:
        data = bytearray(PREFACE)
    for _ in range(rng.randrange(6)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randrange(1, 5)]
            case 2:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case _:
                data[place:place] = rng.choice([b"\r\n", b"\x00", b"\xc3", b":", b" ", b"%zz"])
        if not data:
            break
    return bytes(data)


async def test_rubbish_does_not_stop_the_server(served) -> None:
    rng = random.Random(8633)
    limit = trio.CapacityLimiter(20)

    async def one(data: bytes) -> None:
        async with limit:
            await throw(served.port, data)

    async with trio.open_nursery() as nursery:
        for seed in SEEDS:
            nursery.start_soon(one, GOOD % (served.port, seed) + b"extra")
        for _ in range(600):
            nursery.start_soon(one, mutated(rng, served.port))
    assert not served.ended.is_set()
    async with served.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_a_whole_exchange(served) -> None:
    async with served.client() as client:
        response = await client.post("/api/v1/jobs", json={"command": "true"})
        assert response.json() == {"id": 1}
        response = await client.get("/api/v1/jobs", headers={"Authorization": "Bearer no"})
        assert response.status_code == 401
        assert "bearer" in response.headers["www-authenticate"].lower()


async def test_a_client_that_does_not_read_cannot_hold_the_end(served) -> None:
    async with served.client() as client:
        await client.post("/api/v1/jobs", json={"command": "yes"})
    served.queue.start(1)
    for _ in range(100):
        served.queue.write(1, "stdout", b"y" * 256 * 1024)
    stream = await trio.open_tcp_stream("127.0.0.1", served.port)
    async with stream:
        await stream.send_all(
            b"GET /api/v1/jobs/1/logs?follow=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Authorization: Bearer test-token\r\n\r\n" % served.port
        )
        assert await stream.receive_some(10)
        served.shutdown.set()
        with trio.fail_after(5):
            await served.ended.wait()


def request(served, line: str, *headers: str, body: bytes = b"") -> bytes:
    lines = (line, f"Host: 127.0.0.1:{served.port}", "Authorization: Bearer test-token", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: a",
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer test-token\r\n"
        b"Content-Length: 9\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_a_client_that_ends_within_its_request_is_let_go_at_once(
    served, begun: bytes, autojump_clock
) -> None:
    begun = begun.replace(b"%s", b"127.0.0.1:%d" % served.port)
    begin = trio.current_time()
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(begun)
        await stream.send_eof()
        await received(stream)
    assert trio.current_time() - begin < 1  # it is the clock of the test: nothing was waited for


async def test_a_client_that_closes_its_side_after_its_request_gets_the_whole_answer(
    served, autojump_clock
) -> None:
    async def exchange(sent: bytes) -> bytes:
        async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            return (await received(stream)).partition(b"\r\n\r\n")[2]

    begin = trio.current_time()
    body = b'{"command": "a"}'
    post = request(served, "POST /api/v1/jobs HTTP/1.1", f"Content-Length: {len(body)}", body=body)
    assert await exchange(post) == b'{"id":1}'
    both = await exchange(post * 2)
    assert both.startswith(b'{"id":2}')
    assert both.endswith(b'{"id":3}')
    served.queue.start(1)
    for _ in range(20):
        served.queue.write(1, "stdout", bytes(200_000))
    assert await exchange(request(served, "GET /api/v1/jobs/1/logs HTTP/1.1")) == bytes(4_000_000)
    assert trio.current_time() - begin < 1
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            answer = await exchange(request(served, "GET /api/v1/jobs/1?wait=60 HTTP/1.1"))
            assert b'"state":"succeeded"' in answer

        await served.queue.until(lambda: served.queue.waiters)
        await trio.sleep(10)
        served.queue.finish(1)


async def test_a_head_that_takes_its_time_is_not_waited_for(served, autojump_clock) -> None:
    begin = trio.current_time()
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def dribble() -> None:
                for byte in request(served, "GET /healthz HTTP/1.1"):
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.9)

            assert await received(stream) == b""
            nursery.cancel_scope.cancel()
    assert trio.current_time() - begin == pytest.approx(HEAD_SECONDS)


async def test_a_connection_is_kept_between_requests(served, autojump_clock) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        for _ in range(3):
            await stream.send_all(request(served, "GET /healthz HTTP/1.1"))
            answer = b""
            while b'"ok"}' not in answer:
                answer += await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 200")
            begin = trio.current_time()
            await trio.sleep(HEAD_SECONDS - 1)
        assert await received(stream) == b""
    assert trio.current_time() - begin == pytest.approx(HEAD_SECONDS)


async def test_a_client_that_leaves_in_a_long_answer_ends_it(served) -> None:
    async with served.client() as client:
        await client.post("/api/v1/jobs", json={"command": "a"})
    served.queue.start(1)
    for _ in range(200):
        served.queue.write(1, "stdout", bytes(200_000))
    passes: list[list[int]] = []
    left = trio.Event()
    records = served.queue.records

    async def watched(*args, **settings):
        passes.append([])
        try:
            async with aclosing(records(*args, **settings)) as source:
                async for record in source:
                    passes[-1].append(record.offset)
                    yield record
        finally:
            if len(passes) == 2:  # the first one measures
                left.set()

    served.queue.records = watched
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(request(served, "GET /api/v1/jobs/1/logs HTTP/1.1"))
        await stream.receive_some(10)
    with trio.fail_after(5):
        await left.wait()
    assert len(passes[1]) < len(passes[0])


BOMB = gzip.compress(bytes(20 << 20), 1) + bytes(8 << 20)


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        (f"Content-Encoding: gzip\r\nContent-Length: {len(BOMB)}", [BOMB]),
        (f"Content-Length: {40 << 20}", [bytes(1 << 20)] * 40),
        (
            "Transfer-Encoding: chunked",
            [b"100000\r\n%b\r\n" % bytes(1 << 20)] * 40 + [b"0\r\n\r\n"],
        ),
    ],
    ids=["a bomb", "declared", "chunked"],
)
async def test_a_body_that_is_refused_on_its_way_is_answered_to_a_client_that_sends_it_all(
    served, headers, pieces
) -> None:
    """Also where more of it waits than the queue to the application takes."""
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n{headers}\r\n\r\n"
    with trio.fail_after(PATIENCE):
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        async with stream:
            for piece in (head.encode(), *pieces):
                await stream.send_all(piece)
            assert b"HTTP/1.1 413" in await received(stream)


async def test_who_sends_on_after_a_refusal_is_not_listened_to_for_long(
    served, autojump_clock
) -> None:
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: {40 << 20}\r\n\r\n"
    stream = await trio.open_tcp_stream("127.0.0.1", served.port)
    async with stream:
        await stream.send_all(head.encode())
        begin = trio.current_time()
        answer = await stream.receive_some()
        assert b"HTTP/1.1 413" in answer
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.1)
        assert trio.current_time() - begin < 2 * LINGER_SECONDS


async def test_an_offer_of_http_2_is_answered_in_http_1(served) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(
            request(
                served, "GET /healthz HTTP/1.1", "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__",
            )
        )  # fmt: skip
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_cancelling_is_clean() -> None:
    async def app(scope, receive, send) -> None:
        await trio.sleep_forever()

    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status) -> None:
            await serve_http(sock, app, shutdown=trio.Event(), task_status=task_status)

        await nursery.start(serve)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GOOD % (port, b""))
        with trio.fail_after(5):
            nursery.cancel_scope.cancel()
    await stream.aclose()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


async def test_a_client_that_leaves_ends_its_stream(served) -> None:
    async with served.client() as client:
        await client.post("/api/v1/jobs", json={"command": "a"})
    served.queue.start(1)
    left = trio.Event()
    records = served.queue.records

    async def watched(*args, **settings):
        try:
            async with aclosing(records(*args, **settings)) as source:
                async for record in source:
                    yield record
        finally:
            left.set()

    served.queue.records = watched
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(
            b"GET /api/v1/jobs/1/logs/stream HTTP/1.1\r\nAuthorization: Bearer test-token\r\n"
            b"Host: 127.0.0.1:%d\r\n\r\n" % served.port
        )
        received = b""
        while b"retry:" not in received:
            received += await stream.receive_some(65_536)
    with trio.fail_after(5):
        await left.wait()
