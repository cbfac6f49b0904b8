"""The curves: how what P1, P2 and P7 measure changes with one size, over all that it may be.

Measures: jobs a second against the slots of one worker, against the jobs that wait, and against the
workers that are connected (which run nothing, see `workers.py`), with the server's memory beside
the latter; the seconds of a job against the size of its output. Fair because: each is measured as
its row is, with the defaults, and the points of a round follow each other, so that a change of the
machine bends all curves at the same place. What grows is added to: the queue of a million jobs is
the one that had a thousand.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import p1_throughput, p2_output
from benchmarks.harness import Service, allow_many_files, memory, open_files, process, service
from benchmarks.p5_queue_depth import FOR_NOBODY
from benchmarks.rows import Curve


def slots(folder: Path, quick: bool) -> list[Curve]:
    counts, total, rounds = ((2,), 30, 1) if quick else ((1, 2, 4, 8, 16, 32, 64), 2_000, 3)
    rates: dict[float, list[float]] = {count: [] for count in counts}
    with service(folder) as server:
        for number in range(rounds):
            for count in counts:
                with server.worker(count, f"slots-{count}"):
                    group = f"{count}-{number}"
                    rates[count].append(p1_throughput.rate(server, total, group))
    return [Curve("slots", "/bin/true against the slots of one worker", "slots", "jobs/s", rates)]


def depth(folder: Path, quick: bool) -> list[Curve]:
    depths = (100, 200) if quick else (1_000, 10_000, 100_000, 1_000_000)
    total, rounds = (30, 1) if quick else (2_000, 3)
    rates: dict[float, list[float]] = {}
    waiting = 0
    with service(folder) as server, server.worker(8):
        for count in depths:
            server.fill(count - waiting, group="waiting", **FOR_NOBODY)
            waiting = count
            rates[count] = [
                p1_throughput.rate(server, total, f"{count}-{number}") for number in range(rounds)
            ]
    return [Curve("depth", "/bin/true against the jobs that wait", "waiting", "jobs/s", rates)]


def workers(folder: Path, quick: bool) -> list[Curve]:
    counts, total, rounds = ((10,), 100, 1) if quick else ((1, 10, 100, 1_000, 10_000), 5_000, 3)
    allow_many_files(max(counts) + 500)
    rates: dict[float, list[float]] = {}
    sizes: dict[float, list[float]] = {}
    for count in counts:
        with service(folder, f"server-{count}") as server, _workers(server, count):
            sizes[count] = [memory(server.server.pid) / (1 << 20)]
            rates[count] = [_answer(server, total, f"round-{n}") for n in range(rounds)]
    return [
        Curve("workers", "jobs that end at once against the workers connected", "workers",
              "jobs/s", rates),
        Curve("memory", "the server's memory against the workers connected", "workers",
              "MiB", sizes),
    ]  # fmt: skip


@contextmanager
def _workers(server: Service, count: int) -> Iterator[None]:
    argv = ("benchmarks.workers", str(count), "4", str(server.info["port"]))
    with process(server.folder / f"{server.name}-workers.log", *argv):
        # To list 10,000 workers ten times a second would be what the server does.
        server.wait_for(lambda: open_files(server.server.pid) > count, 300, "the connections")
        server.wait_for(lambda: len(server.worker_names()) == count, 60, "the workers")
        yield


def _answer(server: Service, total: int, group: str) -> float:
    """Jobs a second that the workers answer."""
    server.fill(total, command="x", group=group)
    server.wait_for(lambda: server.is_done(group), 300, "the jobs")
    return total / server.span(group)


def output(folder: Path, quick: bool) -> list[Curve]:
    sizes = (0, 10) if quick else (0, 250, 500, 1_000, 1_500, 2_000)
    rounds = 1 if quick else 3
    times: dict[float, list[float]] = {size: [] for size in sizes}
    with service(folder) as server, server.worker(1):
        p2_output.seconds(server, 0)
        for _ in range(rounds):
            for size in sizes:
                times[size].append(p2_output.seconds(server, size * 1_000_000))
    return [
        Curve("output", "one job against the size of its output", "MB", "s", times,
              is_logarithmic=False)
    ]  # fmt: skip


CURVES: dict[str, Callable[[Path, bool], list[Curve]]] = {
    "slots": slots,
    "depth": depth,
    "workers": workers,
    "output": output,
}
