"""What every kind of torture shares: the service behind a proxy, a stream of jobs, the reckoning.

It owns what was promised to whom: which submits were acknowledged. What is broken meanwhile is the
business of `kinds.py`.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from tests.commands import ROOT, Service, kill
from tests.torture.job import KINDS
from tests.torture.judge import (
    STREAMS,
    AttemptRecord,
    Evidence,
    JobRecord,
    Violation,
    judge,
    read_witness,
)
from tests.torture.proxy import Proxy

MARK: Final = "DUPLEX_TORTURE"
"""The variable that every job of a campaign has, and nothing else: its value is the folder."""
PATIENCE: Final = 60.0
"""Seconds without progress that are too long, once nothing is broken any more."""
UNHEARD: Final = (OSError, HTTPException)
"""What a request may end with while the server is being killed: it may have been taken."""


class Scale(NamedTuple):
    """How much torture: how often something is broken, jobs a time, seconds that a job takes."""

    cycles: int
    jobs: int
    seconds: float


class Campaign:
    """One run of torture in one folder.

    Args:
        service: the real commands.
        rng: all chance comes from it.
        mix: the kinds of its jobs, each as often as it stands there.
    """

    def __init__(self, service: Service, rng: random.Random, mix: Sequence[str]) -> None:
        self.service = service
        self.rng = rng
        self.mix = mix
        self.proxy = Proxy(partial(self._port, "port"))
        """Between the workers and the server."""
        self.front = Proxy(partial(self._port, "http_port"))
        """Between those who submit jobs and the server."""
        self.submitted: dict[int, str] = {}
        self.cancelled: set[int] = set()
        """Jobs that had not ended when a cancel of them was acknowledged."""
        self.followed: dict[tuple[int, int], dict[str, bytes]] = {}
        """Output of attempts as somebody saw it who followed it."""
        self.violations: list[Violation] = []
        self.refusals: Counter[str] = Counter()
        """Answers to submits that were no promise, each with its status."""
        self.kills = 0
        self.may_lose: Callable[[AttemptRecord], bool] = lambda attempt: False
        self.may_refuse: tuple[str, ...] = ()
        """What the refusals of submits begin with that are as they should be."""
        self.number = 0
        self._started = time.monotonic()
        self._history = (service.folder / "history").open("a", buffering=1)
        (service.folder / "locks").mkdir()
        (service.folder / "witness").touch()

    # --- what happened ---

    def note(self, text: str) -> None:
        """A line in the history of this run."""
        self._history.write(f"{time.time():.3f} +{time.monotonic() - self._started:.3f} {text}\n")

    def blame(self, sort: Any, text: str) -> None:
        """A promise is broken."""
        self.violations.append(Violation(sort, text))
        self.note(f"VIOLATION {sort}: {text}")

    # --- the service ---

    def _port(self, of: str) -> int | None:
        with suppress(OSError):
            return int(self.service.facts[of])
        return None

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[None]:
        """The proxies run while entered."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.proxy.run)
            await nursery.start(self.front.run)
            yield
            nursery.cancel_scope.cancel()

    async def start_server(self, *options: object) -> subprocess.Popen[bytes]:
        """A server that accepts work."""
        self.note("server starts")
        start = partial(self.service.start_server, *options)
        return await trio.to_thread.run_sync(start)

    def launch_server(self, *options: object) -> subprocess.Popen[bytes]:
        """A server that may not even have begun to accept work."""
        self.note("server starts")
        (self.service.data_dir / "server.json").unlink(missing_ok=True)
        return self.service.start("server", sys.executable, "-m", "remote_runner", *options)

    def start_worker(
        self, name: str, slots: int, *options: object, by_port: int | None = None
    ) -> subprocess.Popen[bytes]:
        """A worker that dials the proxy, or something else."""
        self.note(f"worker {name} starts")
        address = f"127.0.0.1:{by_port or self.proxy.port}"
        return self.service.start_worker(name, slots, "--server", address, *options)

    async def kill(self, process: subprocess.Popen[bytes], what: str) -> None:
        """SIGKILL, now."""
        self.note(f"SIGKILL for {what}")
        self.kills += 1
        await trio.to_thread.run_sync(kill, process)

    async def stop(self, process: subprocess.Popen[bytes], what: str) -> None:
        """SIGTERM, which has to end in exit status 0."""
        code = await trio.to_thread.run_sync(kill, process, signal.SIGTERM)
        if code:
            self.blame("wrong", f"{what} exits with {code} at SIGTERM")

    async def ask(self, path: str, body: Any = None, *, by_port: int | None = None) -> bytes:
        """One request to the API."""
        request = partial(self.service.request, path, body, by_port=by_port)
        return await trio.to_thread.run_sync(request)

    async def number_of_workers(self) -> int:
        """How many are connected; 0 too while the server does not answer."""
        try:
            return len(json.loads(await self.ask("/api/v1/workers")))
        except UNHEARD:
            return 0

    async def wait_for_workers(self, count: int) -> None:
        """Until so many are connected, for a minute at most: then it is a violation."""
        with trio.move_on_after(PATIENCE) as patience:
            while await self.number_of_workers() < count:
                await trio.sleep(0.1)
        if patience.cancelled_caught:
            self.blame("wrong", f"not all of {count} workers came back within a minute")

    # --- jobs ---

    async def submit_steadily(self, count: int) -> None:
        """So many jobs one by one, each sent again with its key until it is acknowledged.

        It takes a second, as long as an average cycle.
        """
        for _ in range(count):
            await trio.sleep(self.rng.uniform(0, 2 / count))
            await self.submit(self.rng.choice(self.mix))

    async def submit(self, kind: str) -> int:
        """One job, until it is acknowledged: its id."""
        self.number += 1
        body = {
            "command": sys.executable,
            "args": ["-ISs", str(ROOT / "tests/torture/job.py"), str(self.service.folder), kind],
            "key": f"torture-{self.number}",
            "env": {MARK: str(self.service.folder)},
            "retries": 1 if KINDS[kind].fails_once else 0,
            "backoff": 0.05,
            "slots": self.rng.choice((1, 1, 1, 1, 1, 1, 1, 2)),
        }
        while True:
            try:
                answer = await self.ask("/api/v1/jobs", body, by_port=self.front.port)
                job_id = int(json.loads(answer)["id"])
            except urllib.error.HTTPError as error:
                # In a thread: it comes through our own proxy, which needs this one.
                why = await trio.to_thread.run_sync(error.read)
                self._refused(f"{error.code} {why.decode(errors='replace')}", error.headers)
            except UNHEARD:
                pass
            else:
                self.submitted[job_id] = kind
                return job_id
            await trio.sleep(0.05)

    def _refused(self, answer: str, headers: Mapping[str, str]) -> None:
        if answer.startswith(("503", "507")) and "Retry-After" not in headers:
            self.blame("wrong", f"no Retry-After stands in {answer}")
        if not self.refusals[answer]:
            self.note(f"a submit is answered with {answer}")
        self.refusals[answer] += 1
        if not answer.startswith(self.may_refuse):
            self.blame("wrong", f"a submit is answered with {answer}")

    async def heal(self) -> None:
        """Wait until all that was acknowledged has ended, or nothing goes on any more."""
        left, since = -1, trio.current_time()
        while (now_left := await self._unfinished()) and trio.current_time() < since + PATIENCE:
            if now_left != left:
                left, since = now_left, trio.current_time()
            await trio.sleep(0.5)
        if now_left:
            self.note(f"{now_left} jobs do not end")

    async def _unfinished(self) -> int:
        """Jobs that have not ended."""
        query = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')"
        rows = await trio.to_thread.run_sync(self._query, query)
        return int(rows[0][0])

    def _query(self, query: str) -> list[Any]:
        """What stands in the database, past the server."""
        path = self.service.data_dir / "queue.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    # --- the reckoning ---

    async def compare(self) -> None:
        """Witness, database and output, while the server still runs."""
        jobs = {job.id: job async for job in self._jobs()}
        attempts = await trio.to_thread.run_sync(self._read_database, jobs)
        output = {}
        for attempt in attempts:
            output[attempt.job, attempt.number] = {
                stream: await self.ask(
                    f"/api/v1/jobs/{attempt.job}/logs?attempt={attempt.number}&stream={stream}"
                )
                for stream in (STREAMS if attempt.log_bytes else ())
            }
        witness = read_witness((self.service.folder / "witness").read_text())
        evidence = Evidence(
            self.submitted, jobs, attempts, witness, output, self.may_lose, self.cancelled,
            self.followed,
        )  # fmt: skip
        for violation in judge(evidence):
            self.blame(*violation)

    async def _jobs(self) -> AsyncIterator[JobRecord]:
        before = ""
        while page := json.loads(await self.ask(f"/api/v1/jobs?limit=1000{before}")):
            for job in page:
                yield JobRecord(job["id"], job["state"], job["reason"], job["attempt"])
            before = f"&before={page[-1]['id']}"

    def _read_database(self, shown: dict[int, JobRecord]) -> list[AttemptRecord]:
        """The attempts; what stands in the file has to agree with what the API shows."""
        self._look_for_damage()
        rows = self._query("SELECT id, state, reason, attempt FROM jobs")
        if {row[0]: JobRecord(*row) for row in rows} != shown:
            self.blame("wrong", "the API and the database do not agree")
        columns = "job_id, number, worker, started_at, finished_at, reason, exit_code, log_bytes"
        attempts = self._query(f"SELECT {columns} FROM attempts ORDER BY 1, 2")
        return [AttemptRecord(*row) for row in attempts]

    def _look_for_damage(self) -> None:
        if (sound := self._query("PRAGMA integrity_check")) != [("ok",)]:
            self.blame("wrong", f"the database is damaged: {sound}")

    def look_for_survivors(self) -> None:
        """No process of any job may be left; those that are, are ended."""
        for pid, argv in marked_processes(f"{MARK}={self.service.folder}"):
            self.blame("left", f"process {pid} is left: {argv}")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the history."""
        self._history.close()


def marked_processes(mark: str) -> Iterator[tuple[int, str]]:
    """Processes with this text in their environment or arguments, but not this one: `(pid, argv)`.

    A zombie has neither.
    """
    wanted = mark.encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError):
            argv = (folder / "cmdline").read_bytes()
            if wanted in argv or wanted in (folder / "environ").read_bytes():
                yield int(folder.name), argv.replace(b"\0", b" ").decode(errors="replace")
