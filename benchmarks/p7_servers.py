"""P7: how many jobs a second servers alone pass through one PostgreSQL: one of them, and four.

Measures: N jobs that are queued already, and 100 workers that speak the protocol and have no
processes: each answers a job at once with its end. From the first start to the last end as the
database has them; every start and end is a durable commit (fsync is on). Beside it, the share of
the database in the CPU time of servers and database together, and how evenly four servers with 25
workers each claimed: the fewest over the most. Fair because: all is on one machine, the workers'
process too, so that four servers have no more CPU than one has; the limit of four is what one did
in the same round. The jobs are counted afterwards.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from benchmarks.harness import Row, Service, Skipped, process, service
from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import (
    PROTOCOL_VERSION,
    Close,
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Spawn,
    Started,
)
from remote_runner.protocol.states import Role
from tests.postgres import Postgres, find_binaries

WORKERS = 100
SLOTS = 4
SERVERS = 4


def run(folder: Path, quick: bool) -> list[Row]:
    total, rounds = (500, 1) if quick else (5000, 3)
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
        for first in range(0, total, 1000):
            servers[0].submit([{"command": "x"}] * min(1000, total - first))
        before = _used(servers), postgres.cpu_seconds()
        ports = [str(server.info["port"]) for server in servers]
        stack.enter_context(process(folder / "workers.log", "benchmarks.p7_servers", *ports))
        servers[0].wait_for(lambda: _is_done(servers[0]), 120, "the jobs")
        own, theirs = _used(servers) - before[0], postgres.cpu_seconds() - before[1]
        ((begin, end, done),) = postgres.execute(
            "SELECT min(started_at), max(finished_at), count(*) FROM jobs"
            " WHERE state = 'succeeded' AND attempt = 1",
            database,
        )
        assert done == total, f"{done} of {total} jobs succeeded"
        claims = postgres.execute("SELECT count(*) FROM jobs GROUP BY server", database)
    return total / (end - begin), theirs / (own + theirs), [int(n) for (n,) in claims]


def _is_done(server: Service) -> bool:
    return not any(
        server.rows("/api/v1/jobs", state=state, limit=1) for state in ("queued", "running")
    )


def _used(servers: Sequence[Service]) -> float:
    """Seconds of CPU that the servers have taken so far."""
    ticks = 0
    for server in servers:
        fields = Path(f"/proc/{server.server.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def _work(port: int, name: str) -> None:
    """A worker whose jobs end as they begin."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    protocol = (PROTOCOL_VERSION, PROTOCOL_VERSION)
    async with DuplexEmitter[Message](stream, Connection(Role.WORKER)) as emitter:
        await emitter.send(Hello(protocol, name, name, name, SLOTS, {}, "bench"))
        await emitter.receive_batch()
        await emitter.send(Ready(SLOTS))
        while batch := await emitter.receive_batch():
            for message in batch:
                match message:
                    case Ping(n):
                        emitter.send_nowait(Pong(n))
                    case Spawn():
                        run_id = message.options.id or ""
                        emitter.send_nowait(Started(run_id, 1, 0))
                        emitter.send_nowait(Close(0, run_id, reason="exit", offset=0))


async def _work_for(ports: Sequence[int]) -> None:
    async with trio.open_nursery() as nursery:
        for index in range(WORKERS):
            nursery.start_soon(_until_the_end, ports[index % len(ports)], f"w{index}")


async def _until_the_end(port: int, name: str) -> None:
    try:
        await _work(port, name)
    except ConnectionLost:
        pass


if __name__ == "__main__":
    trio.run(_work_for, [int(port) for port in sys.argv[1:]])
