"""What all servers of a queue have, as any of them can tell: the servers and their workers.

What is this server's own it knows better than the store; of the others it reads what they have
written down, and only when somebody asks. A server that is alone asks nobody.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import trio

from queued_runner.agents.agent import PREFIX
from queued_runner.drains import Drains
from queued_runner.fleet import Fleet
from queued_runner.jobs import Job, JobState, attempt_id
from queued_runner.sightings import worker_info
from queued_runner.store.base import PlacedAttempt, Reader, ServerRecord, WorkerRecord
from remote_runner.types import WorkerInfo

FRESH: Final = 1.0
"""Seconds for which a look at workers of others holds, for those who ask for reasons."""
SHARE: Final = 20
"""It holds for so many times as long as it took, at least: a twentieth of the time goes into it."""

Read = Callable[[Callable[[Reader], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server, as people see it: `silence` is how many seconds ago it has last given a sign of
    life, `workers` are connected to it, `running` attempts are its own."""

    name: str
    id: str
    silence: float
    workers: int
    running: int


class Overview:
    """A look at all servers of the queue through one of them.

    Args:
        read: asks a reader of the store.
        fleet: this server among them.
        drains: which workers are drained.
        own_workers: the workers of this server. own_attempts: how many attempts it has.
    """

    def __init__(
        self,
        read: Read,
        fleet: Fleet,
        drains: Drains,
        *,
        own_workers: Callable[[], Sequence[WorkerInfo]],
        own_attempts: Callable[[], int],
    ) -> None:
        self._read = read
        self._fleet = fleet
        self._drains = drains
        self._own_workers = own_workers
        self._own_attempts = own_attempts
        self._looking = trio.Lock()
        self._own: Sequence[WorkerInfo] = ()
        self._own_holds_until = -math.inf
        self._others: Sequence[WorkerInfo] = ()
        self._holds_until = -math.inf

    async def workers(self) -> Sequence[WorkerInfo]:
        """All that are connected to any server, as they are now."""
        if not self._fleet.is_shared:
            return self._own_workers()
        return self._with_own(await self._look(), self._own_workers())

    async def recent_workers(self) -> Sequence[WorkerInfo]:
        """The same, at the cost of one look for all who ask in a second: those of others may be as
        old as that, and where there are thousands of its own, these too."""
        if not self._fleet.is_shared:
            return self._recent_own()
        async with self._looking:
            begun = trio.current_time()
            if begun > self._holds_until:
                self._others = await self._look()
                now = trio.current_time()
                self._holds_until = now + max(FRESH, SHARE * (now - begun))
        return self._with_own(self._others, self._recent_own())

    def _recent_own(self) -> Sequence[WorkerInfo]:
        begun = trio.current_time()
        if begun >= self._own_holds_until:
            self._own = self._own_workers()
            now = trio.current_time()
            self._own_holds_until = now + SHARE * (now - begun)
        return self._own

    def _with_own(
        self, others: Sequence[WorkerInfo], workers: Sequence[WorkerInfo]
    ) -> Sequence[WorkerInfo]:
        own = [replace(worker, server=self._fleet.name) for worker in workers]
        known = {worker.id for worker in own}
        return [*own, *(self._drains.shown(each) for each in others if each.id not in known)]

    async def _look(self) -> Sequence[WorkerInfo]:
        records, placed, servers = await self._read(_everything)
        names = {server.id: server.name for server in servers if server.id != self._fleet.id}
        running: dict[str, list[PlacedAttempt]] = {}
        for each in placed:
            running.setdefault(each.worker_id, []).append(each)
        found = {
            record.worker_id: worker_info(
                record, names[record.server], running.get(record.worker_id, [])
            )
            for record in records
            if record.server in names
        }
        # Agents have no connection that could be written down: those are known that have a job.
        for each in placed:
            is_agent = each.worker_id.startswith(PREFIX) and each.worker_id not in found
            if is_agent and each.server in names:
                found[each.worker_id] = _agent(each, names[each.server], running[each.worker_id])
        return list(found.values())

    async def servers(self) -> Sequence[ServerInfo]:
        """All that are alive, by their names."""
        fleet = self._fleet
        own = ServerInfo(fleet.name, fleet.id, 0.0, len(self._own_workers()), self._own_attempts())
        if not fleet.is_shared:
            return [own]
        records, placed, servers = await self._read(_everything)
        now = fleet.now()
        others = [
            ServerInfo(
                server.name,
                server.id,
                max(0.0, now - server.beat_at),
                sum(record.server == server.id for record in records),
                sum(each.server == server.id for each in placed),
            )
            for server in servers
            if server.id not in (fleet.id, *fleet.earlier)
        ]
        return sorted([own, *others], key=lambda server: (server.name, server.id))

    async def servers_of(self, jobs: Sequence[Job]) -> Sequence[str | None]:
        """For each job the name of the server that has its running attempt; None: nobody has."""
        owners = [job.server if job.state is JobState.RUNNING else None for job in jobs]
        names = self._fleet.names
        if any(owner is not None and owner not in names for owner in owners):
            servers = await self._read(lambda store: store.servers())  # it came after the last beat
            names = {server.id: server.name for server in servers}
        return [None if owner is None else names.get(owner) for owner in owners]


def _everything(
    store: Reader,
) -> tuple[list[WorkerRecord], list[PlacedAttempt], list[ServerRecord]]:
    return store.workers(), store.placed(), store.servers()


def _agent(attempt: PlacedAttempt, server: str, running: Sequence[PlacedAttempt]) -> WorkerInfo:
    """An agent of another server, as far as its jobs tell."""
    return WorkerInfo(
        id=attempt.worker_id,
        name=attempt.worker,
        state="ready",
        slots=len(running),
        free=0,
        labels={},
        version="",
        address="",
        running=tuple(sorted(attempt_id(*each.key) for each in running)),
        widest=1,
        server=server,
    )
