"""P9: how fast agents can send their output over HTTP, and how long that holds the event loop.

Measures: 8 connections at once send chunks of 512 KiB of a realistic log, compressed beforehand, to
`/tasks/{id}/logs`, each the next when the last is answered, that is when it is on disk; then the
status. The longest step of any task is measured in the server itself. Fair because: the goal is
twice what the ancestor's Agent API (Node, PostgreSQL) took of such a log on the machine where the
goals were set; the limit is gunzip of the same bodies in one thread. The output is counted
afterwards.
"""

import gzip
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.harness import Service, process
from benchmarks.rows import Goal, Row

GOAL = 100
MAX_HELD = 20
CHUNK = 512 * 1024
AT_ONCE = 8


def run(folder: Path, quick: bool) -> list[Row]:
    chunks, tasks, rounds = (4, 8, 1) if quick else (24, 32, 3)
    bodies, sizes = _bodies(chunks)
    ours, limits, held = [], [], []
    for number in range(rounds):
        begin = time.perf_counter()
        for body in bodies:
            zlib.decompress(body, 31)
        limits.append(sum(sizes) / 1e6 / (time.perf_counter() - begin))

        here = folder / f"round-{number}"
        here.mkdir()
        with process(here / "server.log", "benchmarks.p9_agent_logs", str(here)) as server:
            running = _started(here, server)
            port = running.info["http_port"]
            (job_id,) = running.submit([{"command": "true", "group": "warm"}])
            _send_all(port, 1, bodies[:1])
            running.wait_for(partial(running.is_done, "warm"), 60, "the warm-up")
            running.client.get(f"/api/v1/jobs/{job_id}")
            (here / "warm").touch()  # the first requests load what they need
            time.sleep(0.3)
            ids = running.submit([{"command": "true", "group": "p9"}] * tasks)
            begin = time.perf_counter()
            _send_all(port, tasks, bodies)
            ours.append(tasks * sum(sizes) / 1e6 / (time.perf_counter() - begin))
            running.wait_for(partial(running.is_done, "p9"), 60, "the ends")
            stored = running.client.get(f"/api/v1/jobs/{ids[0]}").json()["log_bytes"]
            assert stored == sum(sizes), f"{stored} of {sum(sizes)} bytes are stored"
            running.client.close()
        held.append(float((here / "held").read_text()))
    row = Row("P9 output over HTTP", "MB/s", ours, "gunzip, one thread", limits, Goal(GOAL))
    longest = Goal(MAX_HELD, is_at_most=True)
    return [row, Row("P9 event loop held", "ms", held, goal=longest)]


def _bodies(count: int) -> tuple[list[bytes], list[int]]:
    """The compressed chunks of one task, by index, and how much output each is."""
    random.seed(9)
    words = ["GET", "POST", "/api/v1/jobs", "ok", "retry", "timeout", "user", "cache", "miss"]
    bodies, sizes = [], []
    for index in range(count):
        lines: list[str] = []
        size = 0
        while size < CHUNK:
            text = " ".join(random.choices(words, k=6))
            lines.append(f"2026-11-24T12:00:{random.random() * 60:09.6f}Z {random.random()} {text}")
            size += len(lines[-1]) + 1
        body = {"kind": "stdout", "index": index, "content": "\n".join(lines)}
        bodies.append(gzip.compress(json.dumps(body).encode(), 6))
        sizes.append(size)
    return bodies, sizes


def _send_all(port: int, tasks: int, bodies: list[bytes]) -> None:
    left, failures = list(range(tasks)), []

    def send() -> None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            while left:
                task = _call(connection, "POST", "/tasks/pull", b"")
                if task is None:
                    continue
                left.pop()
                for body in bodies:
                    _call(connection, "POST", f"/tasks/{task['id']}/logs", body, "gzip")
                _call(connection, "PATCH", f"/tasks/{task['id']}/status", b'{"status":"succeeded"}')
            connection.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(min(AT_ONCE, tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _call(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, encoding: str = ""
) -> Any:
    headers = {"Content-Type": "application/json"}
    if encoding:
        headers["Content-Encoding"] = encoding
    connection.request(method, path, body, headers)
    with connection.getresponse() as answer:
        data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
    return json.loads(data)


def _started(folder: Path, server: Any) -> Service:
    deadline = time.monotonic() + 20
    while not (folder / "data" / "server.json").exists():
        if time.monotonic() > deadline or server.poll() is not None:
            raise RuntimeError(f"the server did not start\n{(folder / 'server.log').read_text()}")
        time.sleep(0.01)
    info = json.loads((folder / "data" / "server.json").read_bytes())
    return Service(folder, "data", server, info, Path(info["token_file"]).read_text().strip())


class _LongestStep(trio.abc.Instrument):
    """The longest time that one task kept all others from running, in seconds.

    Time in which other programs had the processor is left out: see proc(5) on `schedstat`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def _now(self) -> float:
        waited = int(os.pread(self._file, 100, 0).split()[1]) / 1e9
        return time.perf_counter() - waited

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = self._now()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.seconds = max(self.seconds, self._now() - self._began)


def _serve(folder: Path) -> None:
    """The service as it is started by its command, with an eye on its event loop."""
    from queued_runner.config import Settings
    from queued_runner.service import serve

    settings = Settings(data_dir=folder / "data", port=0, http_port=0, agent_api=True)
    longest = _LongestStep()

    async def main() -> None:
        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    while not (folder / "warm").exists():
                        await trio.sleep(0.05)
                    longest.seconds = 0.0
                    await anext(aiter(signals))
                    (folder / "held").write_text(f"{longest.seconds * 1000:.3f}")
                    stop.set()

                nursery.start_soon(watch)
                await serve(settings, stop)

    trio.run(main, instruments=[longest])


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
