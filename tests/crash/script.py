"""Twenty jobs on a disk that crashes: the real server and worker, in virtual time, one process.

Owns what a client was told before the crash, and what must be true after it.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import apsw
import trio
from trio.testing import MockClock

from queued_runner.jobs import JobSpec, JobState
from queued_runner.logs import Logs
from queued_runner.store.base import StoreBroken
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.runner import RemoteRunner
from simple_worker.session import Identity
from simple_worker.worker import Server, Worker
from tests.queue.conftest import QueueBench, Wire, inline
from tests.simdisk import SimFiles
from tests.worker.simulation import SimulatedProcesses

LARGE = b"".join(b"%07d\n" % number for number in range(20_000))
SMALL = b"a few words\n"
PATIENCE = 900.0
"""Virtual seconds in which everything must have ended: much more than the script takes."""


async def _succeed(child):
    await child.write(SMALL)
    return 0


async def _fail(child):
    await child.write(SMALL, "stderr")
    return 3


async def _talk(child):
    """Enough to be on disk before it ends, in pieces that are synced one by one."""
    for start in range(0, len(LARGE), 20_000):
        await child.write(LARGE[start : start + 20_000])
        await trio.sleep(0.05)
    return 0


async def _stay(child):
    await trio.sleep(2 * PATIENCE)


PROGRAMS = {"succeed": _succeed, "fail": _fail, "talk": _talk, "stay": _stay}
JOBS = ["succeed", "talk", "stay", "fail"] * 5
EXPECTED = {
    "succeed": (JobState.SUCCEEDED, SMALL),
    "talk": (JobState.SUCCEEDED, LARGE),
    "fail": (JobState.FAILED, SMALL),
    "stay": (JobState.CANCELLED, b""),
}


@dataclass
class Report:
    """`violations` are sentences; `writes` and `syncs` those before the crash."""

    violations: list[str]
    writes: int
    syncs: int


def crash_once(disk, crash_at=None, synchronous="FULL"):
    """The script on this disk, with a crash at this operation, or else at its end."""
    with TemporaryDirectory(prefix="crash-") as folder:
        machine = _Machine(Path(folder), disk, synchronous)
        disk.crash_at = crash_at
        trio.run(machine.live, clock=MockClock(autojump_threshold=0))
    return Report(machine.violations, *machine.counts)


class _Machine:
    """The server's machine, over its crash; its worker is on another one and runs on."""

    def __init__(self, folder, disk, synchronous):
        self._folder = folder
        self._disk = disk
        self._synchronous = synchronous
        self._files = SimFiles(disk, folder / "logs")
        self._processes = SimulatedProcesses()
        self._processes.programs = PROGRAMS
        self._told = {}
        self._cancelled = set()
        self.violations = []

    async def live(self):
        async with trio.open_nursery() as nursery:
            wire = Wire(nursery)
            worker = Worker(
                Identity("w", "boot", "w", 4),
                [Server(lambda: wire.dial("w"))],
                self._processes,
                rng=lambda: 0.5,
                now=trio.current_time,
                say=lambda line: None,
            )
            nursery.start_soon(worker.run)
            await self._serve(wire, self._use)
            self.counts = self._disk.writes, self._disk.syncs
            self._disk.restart()
            try:
                if not await self._serve(wire, self._heal):
                    self.violations.append("the second server did not live")
            except* trio.TooSlowError:
                self.violations.append("some jobs never end")
            nursery.cancel_scope.cancel()

    async def _serve(self, wire, client):
        """One life of the server, until `client` is done or the disk crashes. Was it done?"""
        with self._disk.installed(), patch("queued_runner.log_files.os", self._files):
            store, is_done = None, False
            try:
                store = SQLiteStore(self._folder / "queue.db")
                store._db.pragma("synchronous", self._synchronous)
                queue = QueueBench(self._folder / "logs", store)
                wire.runner = RemoteRunner(port=None)
                async with queue.server(wire.runner) as dispatcher:
                    await client(queue, dispatcher)
                    is_done = True
            except* StoreBroken:
                pass
            finally:
                wire.runner = None
                await wire.cut("w")
                wire.cut_off.clear()
                if store is not None:
                    with suppress(apsw.IOError):
                        store.close()
            return is_done

    async def _use(self, queue, dispatcher):
        """Submit all, the first half in one commit; cancel those that stay; then the power goes."""
        for some in (JOBS[:10], *([command] for command in JOBS[10:])):
            specs = [JobSpec(command=command) for command in some]
            ids = await queue.commits.call(lambda store, specs=specs: store.add(specs, 0.0).ids)
            self._told.update(zip(ids, some, strict=True))
        await self._end_all(queue, dispatcher)
        self._disk.crash()

    async def _heal(self, queue, dispatcher):
        """Nothing is asked for again that was acknowledged."""
        await self._end_all(queue, dispatcher)
        await self._judge(queue)

    async def _end_all(self, queue, dispatcher):
        with trio.fail_after(PATIENCE):
            jobs = queue.store.page(limit=1000)
            for job in jobs:
                if job.spec.command == "stay" and job.id not in self._cancelled:
                    await dispatcher.cancel(job.id, None, None)
                    self._cancelled.add(job.id)
            for job in jobs:
                await queue.end_of(dispatcher, job.id)

    async def _judge(self, queue):
        say = self.violations.append
        jobs = {job.id: job for job in queue.store.page(limit=1000)}
        for job_id, command in self._told.items():
            if job_id not in jobs or jobs[job_id].spec.command != command:
                say(f"job {job_id}, {command}: its submit was answered, and it is gone")
        lives = Counter(int(c.launch.command.env["JOB_ID"]) for c in self._processes.children)
        logs = Logs(self._folder / "logs", run_sync=inline)
        for job in jobs.values():
            what = f"job {job.id}, {job.spec.command}"
            state, output = EXPECTED[job.spec.command]
            if job.state is not state:
                say(f"{what}: {job.state}, {job.reason}")
            if lives[job.id] > 1 or (lives[job.id] == 0 and job.spec.command != "stay"):
                say(f"{what}: was run {lives[job.id]} times")
            at_rest = queue.store.stored_output(job.id, job.attempt)
            records = logs.read(job.id, job.attempt, at_rest, 0)
            stored = b"".join([record.data async for record in records])
            if stored != output:
                say(f"{what}: {len(stored)} bytes of output, not the {len(output)} it wrote")
        if queue.store._db.pragma("integrity_check") != "ok":
            say("the database is damaged")
