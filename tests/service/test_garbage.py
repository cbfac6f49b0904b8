"""Whatever arrives at the ports: the server stays up, works, and stays small."""

import random
import socket
import ssl
from collections.abc import Callable, Iterator

import msgpack
import pytest
import trio

from tests.commands import PATIENCE, Service, resident

CONNECTIONS = 10_000
AT_ONCE = 20
MAX_GROWTH = 16 * 1024 * 1024
MAX_LINES = 100
HELLO = msgpack.packb(
    ["hello", {"protocol": [1, 1], "worker_id": "w", "boot": "b", "name": "n", "slots": 1}]
)
SIZED = {  # headers that declare 4 GiB, 4 Gi items, or the most that their width can say
    "bin": b"\xc6\xff\xff\xff\xff",
    "str": b"\xdb\xff\xff\xff\xff",
    "ext": b"\xc9\xff\xff\xff\xff\x01",
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "array16": b"\xdc\xff\xff",
}


def client_hello() -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


TLS = client_hello()
KINDS: list[Callable[[random.Random], bytes]] = [
    lambda rng: rng.randbytes(rng.randint(1, 4000)),
    lambda rng: b"\x91" * rng.randint(1, 60_000),
    lambda rng: b"\xdc\x04\x00" * rng.randint(1, 20_000),
    lambda rng: b"\x91" + b"\x81\xa1a" * rng.randint(1, 20_000),
    lambda rng: HELLO[: rng.randint(1, len(HELLO) - 1)],
    lambda rng: b"\x92\xa5hello" + rng.choice([*SIZED.values()]) + bytes(rng.randint(0, 8000)),
    lambda rng: rng.choice([*SIZED.values()]) * rng.randint(1, 2000),
    lambda rng: b"[" * rng.randint(1, 60_000),
    lambda rng: b'["hello",' + b'{"a":' * rng.randint(1, 10_000),
    lambda rng: b'["stdout",{"type":"Buffer","data":[%s' % (b"300," * rng.randint(1, 10_000)),
    lambda rng: (
        b'["hello",{"protocol":[1,1],"worker_id":"w","boot":"b","name":"\\ud800","slots":1}]\n'
        b'["ready",1]\n'
    ),
    lambda rng: TLS,
    lambda rng: b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    lambda rng: b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * rng.randint(1, 10_000),
    lambda rng: b"GET /%s HTTP/1.1\r\nHost: localhost" % (b"a" * rng.randint(1, 60_000)),
    lambda rng: b"POST /api/v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{",
    lambda rng: (
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"FFFFFFFFFFFFFFFF\r\n"
        + rng.randbytes(100)
    ),
    lambda rng: b"",
]


def payloads(seed: int, count: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        yield rng.choice(KINDS)(rng)


async def send_all(port: int, waiting: Iterator[bytes]) -> None:
    """Each payload on a connection of its own, until the server ends it; till none is left."""
    for payload in waiting:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            try:
                await stream.send_all(payload)
                await stream.send_eof()
                async for _ in stream:
                    pass
            except trio.BrokenResourceError:
                pass  # the server has seen enough


async def bombard(port: int, seed: int, count: int) -> None:
    waiting = payloads(seed, count)
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(send_all, port, waiting)


@pytest.mark.parametrize("port", ["port", "http_port"])
def test_garbage_costs_nothing(service: Service, port: str) -> None:
    server = service.start_server()
    service.start_worker()
    trio.run(bombard, service.facts[port], 1, 200)
    service.run("true")
    before = resident(server.pid)
    trio.run(bombard, service.facts[port], 2, CONNECTIONS)
    job, output = service.run("echo", "alive")
    assert (job["state"], output) == ("succeeded", b"alive\n")
    assert resident(server.pid) - before < MAX_GROWTH
    assert len(service.logs().splitlines()) < MAX_LINES
    assert server.poll() is None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"8633"),
        (TLS, b"without TLS"),
        (b"hello?\r\n", b"MessagePack or JSON lines"),
    ],
)
def test_the_worker_port_answers_strangers_readably(
    running: Service, request_: bytes, words: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", running.facts["port"])) as client:
        client.settimeout(PATIENCE)
        client.sendall(request_)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400") == request_.startswith(b"GET")
    assert words in answer
