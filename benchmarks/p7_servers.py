"""P7: how many jobs a second servers alone pass: one on SQLite, then one and four on PostgreSQL.

Measures: N jobs that are queued already, and 100 workers that speak the protocol and have no
processes: each answers a job at once with its end. From the first start to the last end as the
database has them; every start and end is a durable commit. On PostgreSQL also the share of the
database in the CPU time of servers and database together, and how evenly four servers with 25
workers each claimed: the fewest over the most. Fair because: all is on one machine, the workers'
process too, so that four servers have no more CPU than one has; the limit of four is what one did
in the same round. The jobs are counted afterwards.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import Service, Skipped, cpu_seconds, process, service
from benchmarks.rows import Goal, Row
from tests.postgres import Postgres, find_binaries

GOAL = 5_000
WORKERS = 100
SLOTS = 4
SERVERS = 4


def run(folder: Path, quick: bool) -> list[Row]:
    total, rounds = (500, 1) if quick else (5000, 3)
    rates = [_alone(folder / f"sqlite-{number}", total) for number in range(rounds)]
    row = Row("P7 the server alone", "jobs/s", rates, goal=Goal(GOAL))
    try:
        return [row, *_on_postgres(folder, total, rounds)]
    except Skipped as reason:
        print(f"P7 on PostgreSQL skipped: {reason}", file=sys.stderr)
        return [row]


def _alone(folder: Path, total: int) -> float:
    folder.mkdir()
    with service(folder) as server:
        server.fill(total, command="x", group="p7")
        with _workers(folder, [server]):
            server.wait_for(lambda: server.is_done("p7"), 120, "the jobs")
        assert server.counts("p7")["succeeded"] == total
        return total / server.span("p7")


def _workers(folder: Path, servers: list[Service]) -> AbstractContextManager[Any]:
    ports = [str(server.info["port"]) for server in servers]
    argv = ("benchmarks.workers", str(WORKERS), str(SLOTS), *ports)
    return process(folder / "workers.log", *argv)


def _on_postgres(folder: Path, total: int, rounds: int) -> list[Row]:
    rates: dict[int, list[float]] = {1: [], SERVERS: []}
    shares: dict[int, list[float]] = {1: [], SERVERS: []}
    fairness = []
    with _postgres() as postgres:
        for number in range(rounds):
            for count in rates:
                rate, share, claims = _round(folder / f"{number}-{count}", postgres, count, total)
                rates[count].append(rate)
                shares[count].append(100 * share)
                if count > 1:
                    fairness.append(min(claims) / max(claims))
    return [
        Row("P7 one server on PostgreSQL", "jobs/s", rates[1]),
        Row(f"P7 {SERVERS} servers on it", "jobs/s", rates[SERVERS], "one server", rates[1]),
        Row("P7 the database's share, one server", "% of CPU", shares[1]),
        Row(f"P7 the database's share, {SERVERS} servers", "% of CPU", shares[SERVERS]),
        Row(f"P7 claims of {SERVERS} servers", "fewest/most", fairness),
    ]


@contextmanager
def _postgres() -> Iterator[Postgres]:
    binaries = find_binaries()
    if binaries is None:
        raise Skipped("PostgreSQL is not installed here")
    postgres = Postgres(binaries, is_durable=True)
    try:
        yield postgres
    finally:
        postgres.close()


def _round(
    folder: Path, postgres: Postgres, count: int, total: int
) -> tuple[float, float, list[int]]:
    """Jobs a second, the database's share of CPU, and how many jobs each server claimed."""
    (folder / "output").mkdir(parents=True)
    database = postgres.new_database()
    options = ("--store", postgres.address(database), "--logs", str(folder / "output"))
    with ExitStack() as stack:
        servers = [
            stack.enter_context(service(folder, f"server-{index}", options))
            for index in range(count)
        ]
        servers[0].fill(total, command="x", group="p7")
        before = _used(servers), postgres.cpu_seconds()
        stack.enter_context(_workers(folder, servers))
        servers[0].wait_for(lambda: servers[0].is_done("p7"), 120, "the jobs")
        own, theirs = _used(servers) - before[0], postgres.cpu_seconds() - before[1]
        ((begin, end, done),) = postgres.execute(
            "SELECT min(started_at), max(finished_at), count(*) FROM jobs"
            " WHERE state = 'succeeded' AND attempt = 1",
            database,
        )
        assert done == total, f"{done} of {total} jobs succeeded"
        claims = postgres.execute("SELECT count(*) FROM jobs GROUP BY server", database)
    return total / (end - begin), theirs / (own + theirs), [int(n) for (n,) in claims]


def _used(servers: list[Service]) -> float:
    return sum(cpu_seconds(server.server.pid) for server in servers)
