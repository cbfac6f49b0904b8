"""P1: how many `/bin/true` a second go from HTTP submit to a durable end.

Measures: N jobs submitted over HTTP in lists of 1,000 to a real server with one real worker of
8 slots on the same machine, from the first submit to the last job's end; output captured, every
state change on disk. The end is looked for ten times a second, which costs the server little and
ours the rest of that tenth. Fair because: the limit is a C program that does nothing but start and
reap the same N processes, two at a time, in turn with ours, so both meet the same machine; no
setting of ours differs from the defaults. Peers run the same number of /bin/true, their output
captured, in the same rounds; how each is set up stands in its own module, and a slow one runs
fewer.
"""

import subprocess
import time
from pathlib import Path

from benchmarks.beside import Beside
from benchmarks.harness import Service, limits_program, service
from benchmarks.rows import Goal, Row

MEASURE = "true_rate"
GOAL = 0.55
BESIDE = {"HyperQueue": 2.5}


def run(folder: Path, quick: bool, peers: Beside) -> list[Row]:
    total, rounds = (300, 1) if quick else (5000, 5)
    program = limits_program(folder)
    ours, limits = [], []
    with service(folder) as server, server.worker(slots=8):
        server.submit([{"command": "/bin/true", "group": "warm"}] * 50)
        server.wait_for(lambda: server.is_done("warm"), 60, "the warm-up")
        for number in range(rounds):
            begin = time.perf_counter()
            subprocess.run([program, "spawn", str(total)], check=True)
            limits.append(total / (time.perf_counter() - begin))

            ours.append(rate(server, total, f"round-{number}"))
            peers.round(total)
    row = Row("P1 /bin/true, end to end", "jobs/s", ours, "posix_spawn in C", limits,
              Goal(GOAL, is_ratio=True))  # fmt: skip
    return [row, *peers.rows(row, BESIDE)]


def rate(server: Service, total: int, group: str) -> float:
    """Jobs a second, from the first submit to the last end."""
    begin = time.perf_counter()
    for first in range(0, total, 1000):
        count = min(1000, total - first)
        server.submit([{"command": "/bin/true", "group": group}] * count)
    server.wait_for(lambda: server.is_done(group), 300, "all jobs")
    seconds = time.perf_counter() - begin
    assert server.counts(group)["succeeded"] == total
    return total / seconds
