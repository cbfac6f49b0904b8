"""Very many workers dial at the same moment: `python -m tests.storm --workers 2000`.

The real server; workers, in a process of their own, that only connect, obey `retry_after_ms` and
wait for work. They connect together, then the server is killed, and they all come back together.
Meanwhile jobs are submitted over HTTP, and the time of each answer is printed: that is what people
feel of the storm.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx2
import trio

from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import Goodbye, Hello, Message, Ping, Pong, Ready, Welcome
from remote_runner.protocol.states import Role
from simple_worker.backoff import reconnect_delay
from tests.commands import Service, kill

PACE = 0.02
"""Seconds between two submits."""


class Storm:
    """Workers that stay connected; how many are, how often they were turned away."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self.connected = 0
        self.answers: Counter[str] = Counter()

    async def worker(self, number: int) -> None:
        failures = 0
        while True:
            wait = None
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            except OSError:
                failures += 1
            else:
                before = self.answers["welcome"]
                wait = await self._converse(stream, number)
                failures = 0 if self.answers["welcome"] > before else failures + 1
            await trio.sleep(reconnect_delay(failures, lambda: number / self._count, wait))

    async def _converse(self, stream: trio.SocketStream, number: int) -> float | None:
        is_in = False
        async with DuplexEmitter[Message](stream, Connection(Role.WORKER)) as emitter:
            name = f"storm-{number}"
            emitter.send_nowait(Hello((1, 1), name, "boot", name, 1, {"none": "yes"}, "0"))
            try:
                while batch := await emitter.receive_batch():
                    for message in batch:
                        if isinstance(message, Welcome):
                            self.answers["welcome"] += 1
                            self.connected += 1
                            is_in = True
                            emitter.send_nowait(Ready(1))
                        elif isinstance(message, Goodbye):
                            self.answers[message.reason] += 1
                            wait = message.retry_after_ms
                            return None if wait is None else wait / 1000
                        elif isinstance(message, Ping):
                            emitter.send_nowait(Pong(message.n))
            except ConnectionLost:
                pass
            finally:
                self.connected -= is_in
        return None

    async def tell(self) -> None:
        """A line each time that all are in."""
        while True:
            while self.connected < self._count:
                await trio.sleep(0.02)
            print(dict(self.answers), flush=True)
            self.answers.clear()
            while self.connected:
                await trio.sleep(0.02)


async def dial(port: int, workers: int) -> None:
    storm = Storm(port, workers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storm.tell)
        for number in range(workers):
            nursery.start_soon(storm.worker, number)


async def submit(client: httpx2.AsyncClient, took: list[float]) -> None:
    """Jobs that nobody runs, one after the other."""
    while True:
        began = time.perf_counter()
        answer = await client.post("/api/v1/jobs", json={"command": "x", "needs": {"no": "one"}})
        answer.raise_for_status()
        took.append(time.perf_counter() - began)
        await trio.sleep(PACE)


async def measure(service: Service, times: int) -> None:
    """Submit until the workers say, for so many times, that all of them are in."""
    facts = service.facts
    token = Path(facts["token_file"]).read_text().strip()
    log = service.folder / "storm.log"
    took: list[float] = []
    headers = {"Authorization": f"Bearer {token}"}
    began = time.perf_counter()
    async with (
        httpx2.AsyncClient(
            base_url=facts["url"], headers=headers, trust_env=False, timeout=120.0
        ) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(submit, client, took)
        while len(log.read_text().splitlines()) < times or not took:
            await trio.sleep(PACE)
        seconds = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    took.sort()
    p50, p99 = (took[int(len(took) * share)] for share in (0.5, 0.99))
    print(
        f"all in after {seconds:.1f} s: {log.read_text().splitlines()[-1]}; {len(took)} submits:"
        f" p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {took[-1] * 1e3:.1f} ms",
        flush=True,
    )


def run(workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
        server = service.start_server()
        port = service.facts["port"]
        options = ("--workers", workers, "--dial", port)
        service.start("storm", sys.executable, "-m", "tests.storm", *options)
        trio.run(measure, service, 1)
        kill(server)
        service.start_server("--port", port)
        trio.run(measure, service, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2000)
    parser.add_argument("--dial", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * given.workers + 500), most))
    if given.dial is None:
        run(given.workers)
    else:
        trio.run(dial, given.dial, given.workers)


if __name__ == "__main__":
    main()
