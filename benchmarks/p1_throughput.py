"""P1: how many `/bin/true` a second go from HTTP submit to a durable end.

Measures: N jobs submitted over HTTP in lists of 1,000 to a real server with one real worker of
8 slots on the same machine, from the first submit to the last job's end; output captured, every
state change on disk. The end is looked for ten times a second, which costs the server little and
ours the rest of that tenth. Fair because: the limit is a C program that does nothing but start and
reap the same N processes, two at a time, in turn with ours, so both meet the same machine; no
setting of ours differs from the defaults.
"""

import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import Row, limits_program, service

GOAL = 0.55


def run(folder: Path, quick: bool) -> list[Row]:
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

            group = f"round-{number}"
            begin = time.perf_counter()
            for first in range(0, total, 1000):
                count = min(1000, total - first)
                server.submit([{"command": "/bin/true", "group": group}] * count)
            server.wait_for(partial(server.is_done, group), 300, "all jobs")
            ours.append(total / (time.perf_counter() - begin))
            assert server.count(group, "succeeded") == total
    row = Row("P1 /bin/true, end to end", "jobs/s", ours, "posix_spawn in C", limits)
    reached = (row.ratio or 0) >= GOAL
    goal = f">= {GOAL} x limit"
    return [Row(row.name, row.unit, ours, row.limit_name, limits, goal, reached)]
