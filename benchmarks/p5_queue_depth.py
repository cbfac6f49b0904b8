"""P5: whether a queue of a million waiting jobs is slower than one of a thousand.

Measures: the rate of P1, twice: beside jobs that no worker may take (they need a label that none
has), and beside jobs that come later (a lower priority). Of the second kind a worker takes one as
soon as nothing better is there, so it is started after the submit, and the rate is that of both
parts: the time of the submit, and that from the first start to the last end. Then how long a server
needs from its start to the first job that it has accepted. Fair because: two servers of the same
settings, one with each depth, are measured in turn on the same machine, and the one whose turn it
is not has nothing to do. The database is in the memory of the kernel, as on a machine whose server
alone was started again.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import p1_throughput
from benchmarks.harness import Service, service
from benchmarks.rows import Goal, Row

SLOTS = 8
FOR_NOBODY = {"command": "/bin/true", "needs": {"machine": "none"}}
FOR_LATER = {"command": "/bin/sleep", "args": ["1"], "priority": -1}
"""The worker drains at the end of a round, and waits for those of them that it has begun."""

Measure = Callable[[Service, int, str], float]


def run(folder: Path, quick: bool) -> list[Row]:
    depths, total, rounds = ((100, 1_000), 50, 1) if quick else ((1_000, 1_000_000), 2_000, 5)
    deep, shallow = f"{depths[1]:,}", f"{depths[0]:,} jobs"
    goal = Goal(0.9, is_ratio=True)
    rows = []
    for kind, job, measure in (
        ("for others", FOR_NOBODY, _beside_others),
        ("for later", FOR_LATER, _before_later),
    ):
        here = folder / kind.replace(" ", "-")
        here.mkdir()
        rates = _rates(here, depths, job, measure, total, rounds)
        name = f"P5 /bin/true, {deep} wait {kind}"
        rows.append(Row(name, "jobs/s", rates[1], shallow, rates[0], goal))
    starts = [[_start(here, depth) for depth in depths] for _ in range(rounds)]
    return [
        *rows,
        Row(f"P5 start with {deep} waiting", "s", [seconds for _, seconds in starts],
            shallow, [seconds for seconds, _ in starts], Goal(3, is_at_most=True)),
    ]  # fmt: skip


def _rates(
    folder: Path,
    depths: tuple[int, int],
    job: dict[str, Any],
    measure: Measure,
    total: int,
    rounds: int,
) -> list[list[float]]:
    """Jobs a second at each depth, a value a round."""
    with ExitStack() as stack:
        servers = [stack.enter_context(service(folder, str(depth))) for depth in depths]
        for server, depth in zip(servers, depths, strict=True):
            server.fill(depth, group="waiting", **job)
        rates: list[list[float]] = [[] for _ in servers]
        for number in range(rounds):
            for server, values in zip(servers, rates, strict=True):
                values.append(measure(server, total, f"round-{number}"))
        return rates


def _beside_others(server: Service, total: int, group: str) -> float:
    with server.worker(SLOTS, f"worker-{server.name}"):
        return p1_throughput.rate(server, total, group)


def _before_later(server: Service, total: int, group: str) -> float:
    begin = time.perf_counter()
    server.fill(total, command="/bin/true", group=group)
    submit = time.perf_counter() - begin
    with server.worker(SLOTS, f"worker-{server.name}"):
        server.wait_for(lambda: server.is_done(group), 300, "all jobs")
    assert server.counts(group)["succeeded"] == total
    return total / (submit + server.span(group))


def _start(folder: Path, depth: int) -> float:
    """Seconds from the start of a server on what another left to its answer to a submit."""
    begin = time.perf_counter()
    with service(folder, str(depth)) as server:
        server.submit([FOR_NOBODY])
        return time.perf_counter() - begin
