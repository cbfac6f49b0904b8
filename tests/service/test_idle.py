"""Workers that wait for work cost the server almost nothing."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest

from tests.commands import PATIENCE, Service, resident

WORKERS = 1_000
MAX_COST = 25 * 1024


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for a socket a worker, here and in the server, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * WORKERS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this machine allows {hard} open files, and {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class IdleWorker:
    """A worker that has said that it is ready, and no more."""

    def __init__(self, port: int, name: str) -> None:
        while not self._is_welcome(port, name):
            pass
        self._send(["ready", 1], ["ping", 7])
        assert self._receive() == ["pong", 7]  # so what came before it has been taken as well

    def _is_welcome(self, port: int, name: str) -> bool:
        """Knock; where very many do, wait for the turn that is given."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._events = msgpack.Unpacker()
        identity = {"worker_id": name, "boot": "1", "name": name, "slots": 1, "version": "1"}
        self._send(["hello", {"protocol": [1, 1], "labels": {}, **identity}])
        answer, about = self._receive()
        if answer == "welcome":
            return True
        assert about["reason"] == "busy"
        self._socket.close()
        time.sleep(about["retry_after_ms"] / 1000)
        return False

    def _send(self, *events: list[object]) -> None:
        self._socket.sendall(b"".join(map(msgpack.packb, events)))

    def _receive(self) -> list[Any]:
        while True:
            for event in self._events:
                if event[0] != "ping":  # one that waits long to be let in is pinged meanwhile
                    return list(event)
            self._events.feed(self._socket.recv(4096))

    def __enter__(self) -> None:
        del self._events

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_a_thousand_idle_workers_cost_little_memory(service: Service, many_files: None) -> None:
    server = service.start_server()
    port = service.facts["port"]
    with IdleWorker(port, "first"), ExitStack() as stack:
        before = resident(server.pid)
        for number in range(WORKERS):
            stack.enter_context(IdleWorker(port, f"idle-{number}"))
        cost = (resident(server.pid) - before) / WORKERS
        assert cost <= MAX_COST
        assert len(service.json("workers")) == WORKERS + 1
