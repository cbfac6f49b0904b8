"""P3: how fast jobs are accepted, each answer meaning "it is on disk".

Measures: jobs a second in lists of 1,000 over one HTTP connection, and the time of a single
submit on it, with no worker connected, so that nothing but accepting is measured. Fair because:
the limit is the engine itself, storing the same JSON in a table of one column, 1,000 rows a
commit (and one row a commit) at synchronous=FULL on the same disk, in turn with ours.
"""

import json
import time
from pathlib import Path

import apsw

from benchmarks.harness import percentile, service
from benchmarks.rows import Goal, Row

LIST = 1000


def run(folder: Path, quick: bool) -> list[Row]:
    lists, singles, rounds = (2, 30, 1) if quick else (10, 300, 5)
    job = {"command": "/bin/echo", "args": ["hello", "world"], "env": {"A": "b"}, "group": "p3"}
    rates, limits, single_times, single_limits = [], [], [], []
    database = apsw.Connection(str(folder / "limit.db"))
    for statement in ("journal_mode=wal", "synchronous=full"):
        database.execute(f"pragma {statement}").fetchall()
    database.execute("create table t (v text)")
    row = json.dumps(job)
    with service(folder) as server:
        server.submit([job] * 10)
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(lists):
                with database:
                    database.executemany("insert into t values (?)", ((row,) for _ in range(LIST)))
            limits.append(lists * LIST / (time.perf_counter() - begin))

            begin = time.perf_counter()
            for _ in range(lists):
                server.submit([job] * LIST)
            rates.append(lists * LIST / (time.perf_counter() - begin))

            for _ in range(singles):
                begin = time.perf_counter()
                with database:
                    database.execute("insert into t values (?)", (row,))
                single_limits.append((time.perf_counter() - begin) * 1000)
                begin = time.perf_counter()
                server.client.post("/api/v1/jobs", json=job).raise_for_status()
                single_times.append((time.perf_counter() - begin) * 1000)
    database.close()
    return [
        Row("P3 submit, lists of 1,000", "jobs/s", rates, "engine alone", limits,
            Goal(30_000)),
        Row("P3 single submit, p50", "ms", [percentile(single_times, 50)], "engine alone",
            [percentile(single_limits, 50)], Goal(5, is_at_most=True)),
    ]  # fmt: skip
