"""P8: how soon all goes on after a server was killed.

Measures: a server with 100,000 jobs, a fifth of them ended, the others waiting, and workers whose
slots all run something, is killed. Started again on the same port: the time until it has accepted a
job, and from then until every worker is back and is known to run what it ran. Fair because: it is
the real server with its defaults, killed as a crash would, and real workers, which learn of it only
by their connection's end; the jobs that run are the ones that ran, in their first attempt. The
database is in the memory of the kernel: only the server was lost.
"""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness import Service, process, service
from benchmarks.rows import Goal, Row

SLOTS = 8
FOR_NOBODY = {"command": "/bin/true", "needs": {"machine": "none"}}


def run(folder: Path, quick: bool) -> list[Row]:
    total, workers, rounds = (500, 1, 1) if quick else (100_000, 4, 5)
    sleep = {"command": "/bin/sleep", "args": ["600"], "group": "running"}
    accepts, resumed = [], []
    with ExitStack() as crew:
        with service(folder) as server:
            options = ("--port", str(server.info["port"]))
            server.fill(total // 5, command="x", group="ended")
            with process(folder / "fast.log", "benchmarks.workers", "20", "4", options[1]):
                server.wait_for(lambda: server.is_done("ended"), 120, "the ended jobs")
            server.fill(total - total // 5, group="waiting", **FOR_NOBODY)
            ids = server.submit([sleep] * workers * SLOTS)
            for number in range(workers):
                crew.enter_context(server.worker(SLOTS, f"worker-{number}"))
            server.wait_for(lambda: len(_running(server)) == len(ids), 20, "the jobs")
            ran = _running(server)
            _kill(server)
        for number in range(rounds):
            begin = time.perf_counter()
            with service(folder, options=options) as server:
                server.submit([FOR_NOBODY])
                accepts.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                server.wait_for(lambda: _running(server) == ran, 60, "the workers")
                resumed.append(time.perf_counter() - begin)
                if number == rounds - 1:
                    server.client.post("/api/v1/jobs/cancel", json={"ids": ids}).raise_for_status()
                    server.wait_for(lambda: server.is_done("running"), 20, "the cancel")
                _kill(server)
    return [
        Row(f"P8 start with {total:,} jobs", "s", accepts, goal=Goal(2, is_at_most=True)),
        Row("P8 workers resumed", "s", resumed, goal=Goal(5, is_at_most=True)),
    ]


def _kill(server: Service) -> None:
    server.server.send_signal(signal.SIGKILL)
    server.server.wait()


def _running(server: Service) -> set[tuple[str, str]]:
    """Which worker is said to run which attempt."""
    return {
        (worker["name"], run)
        for worker in server.rows("/api/v1/workers")
        for run in worker["running"]
    }
