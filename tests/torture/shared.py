"""Two servers of one queue in PostgreSQL, and what those see of it who may ask either.

It owns the database, the servers' processes and folders, and the proxies between workers and each
of them. What is broken meanwhile is the business of `servers.py` and `database.py`.
"""

import json
import random
import signal
import subprocess
import sys
import time
import urllib.error
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from queued_runner.client.api import Chunk, Client
from queued_runner.client.errors import ClientError
from queued_runner.client.locate import Server, find_server
from tests.commands import Service
from tests.postgres import Postgres, find_binaries
from tests.torture.campaign import UNHEARD, Campaign
from tests.torture.proxy import Proxy

NAMES: Final = ("a", "b")
ENDED: Final = ("succeeded", "failed", "cancelled")
LONG: Final = 3.0
"""Seconds after which an answer is noteworthy."""
AWAY: Final = 0.1
"""Seconds until somebody is asked again who did not answer."""


class Peer:
    """One of the servers: a folder of its own, and one life after the other."""

    def __init__(self, folder: Path, name: str, store: str, logs: Path) -> None:
        self.name = name
        self.service = Service(folder / name)
        self._options = ("--store", store, "--logs", logs, "--heartbeat", "2s")
        self.process: subprocess.Popen[bytes] | None = None
        self.proxy = Proxy(lambda: self._fact("port"))
        """Between the workers and this server, whichever port its life has."""

    def _fact(self, of: str) -> int | None:
        with suppress(OSError, ValueError):
            return int(self.service.facts[of])
        return None

    def launch(self) -> None:
        """Begin a life, which may not even accept work yet."""
        (self.service.data_dir / "server.json").unlink(missing_ok=True)
        argv = (sys.executable, "-m", "remote_runner", *self._options)
        self.process = self.service.start("server", *argv)

    def wait_until_ready(self) -> None:
        """Until it accepts work."""
        assert self.process is not None
        self.service.wait_until_ready(self.process)

    def kill(self) -> None:
        """SIGKILL; who looks finds no server then, as on a machine that is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        (self.service.data_dir / "server.json").unlink(missing_ok=True)

    def freeze(self) -> None:
        """SIGSTOP: to the others it is as good as dead, and yet it goes on some time."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def locate(self) -> Server:
        """Where clients find it. Raises Unreachable."""
        return find_server(data_dir=str(self.service.data_dir))


class SharedCampaign(Campaign):
    """A campaign whose server is two servers: whoever asks asks either."""

    def __init__(self, service: Service, rng: random.Random, mix: Sequence[str]) -> None:
        binaries = find_binaries()
        assert binaries is not None, "PostgreSQL is not installed here"
        super().__init__(service, rng, mix)
        self.postgres = Postgres(binaries, is_durable=True)
        self._database = self.postgres.new_database()
        store = self.postgres.address(self._database)
        logs = service.folder / "shared"
        logs.mkdir()
        self.peers = [Peer(service.folder, name, store, logs) for name in NAMES]

    def close(self) -> None:
        with ExitStack() as stack:
            stack.callback(self.postgres.close)
            for peer in self.peers:
                stack.push(peer.service)
            super().close()

    # --- the service ---

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for peer in self.peers:
                await nursery.start(peer.proxy.run)
            yield
            nursery.cancel_scope.cancel()

    async def start_peers(self) -> None:
        """Both of them, accepting work."""
        for peer in self.peers:
            self.note(f"server {peer.name} starts")
            peer.launch()
        for peer in self.peers:
            await trio.to_thread.run_sync(peer.wait_until_ready)

    async def stop_peers(self) -> None:
        """SIGTERM for both, which must leave nothing of them in the database."""
        for peer in self.peers:
            assert peer.process is not None
            await self.stop(peer.process, f"server {peer.name}")
        for table in ("servers", "workers"):
            if left := self._query(f"SELECT * FROM {table}"):
                self.blame("wrong", f"what has stopped is still in the table of {table}: {left}")

    def start_worker(
        self, name: str, slots: int, *options: object, by_port: int | None = None
    ) -> subprocess.Popen[bytes]:
        self.note(f"worker {name} starts")
        ports = [peer.proxy.port for peer in self.peers]
        servers = [part for port in ports for part in ("--server", f"127.0.0.1:{port}")]
        return self.service.start_worker(name, slots, *servers, *options)

    async def ask(self, path: str, body: Any = None, *, by_port: int | None = None) -> bytes:
        """One request, to either."""
        return await self.ask_one(self.rng.choice(self.peers), path, body)

    async def ask_one(self, peer: Peer, path: str, body: Any = None) -> bytes:
        """One request, to this one."""
        begin = time.monotonic()
        try:
            return await trio.to_thread.run_sync(partial(peer.service.request, path, body))
        finally:
            took = time.monotonic() - begin
            if took > LONG:
                self.note(f"{peer.name} takes {took:.1f} s for {path}")

    async def number_of_workers(self) -> int:
        found = set()
        for peer in self.peers:
            with suppress(*UNHEARD):
                workers = json.loads(await self.ask_one(peer, "/api/v1/workers"))
                found |= {worker["id"] for worker in workers}
        return len(found)

    # --- jobs ---

    async def submit_and_follow(self, kind: str) -> None:
        """A job that somebody follows through a server, whichever has it."""
        peer = self.rng.choice(self.peers)
        job_id = await self.submit(kind)
        self.note(f"job {job_id} is followed through {peer.name}")
        follow = partial(_follow, peer, job_id)
        for number, streams in (await trio.to_thread.run_sync(follow)).items():
            self.followed[job_id, number] = streams

    async def submit_and_cancel(self, kind: str) -> None:
        """A job that somebody wants to end."""
        job_id = await self.submit(kind)
        await trio.sleep(self.rng.uniform(0, 1.5))
        while True:
            try:
                answer = await self.ask(f"/api/v1/jobs/{job_id}/cancel", {})
            except urllib.error.HTTPError as error:
                why = await trio.to_thread.run_sync(error.read)
                self._refused(f"{error.code} {why.decode(errors='replace')}", error.headers)
            except UNHEARD:
                pass
            else:
                break
            await trio.sleep(AWAY)
        state = json.loads(answer)["state"]
        self.note(f"a cancel of job {job_id}, now {state}, is acknowledged")
        if state != "succeeded":
            self.cancelled.add(job_id)

    # --- the database ---

    def _query(self, query: str) -> list[Any]:
        return self.postgres.execute(query, self._database)

    def _look_for_damage(self) -> None:
        nobodys = "SELECT id FROM jobs WHERE give_up_at IS NOT NULL OR server IS NULL"
        if left := self._query(f"SELECT id FROM ({nobodys} AND state = 'running') AS these"):
            self.blame("lost", f"jobs run and are nobody's: {left}")


def _follow(peer: Peer, job_id: int) -> dict[int, dict[str, bytes]]:
    """The output of every attempt, by stream, as a client sees it that goes on and on."""
    while True:
        output: dict[int, dict[str, bytes]] = defaultdict(lambda: defaultdict(bytes))
        try:
            with Client(peer.locate(), relocate=peer.locate) as client:
                for item in client.follow(job_id):
                    if isinstance(item, Chunk):
                        output[item.attempt][item.stream] += item.data
                    else:
                        assert item["state"] in ENDED, item
            return output
        except ClientError:  # it was not there at the start, where nobody waits for it
            time.sleep(AWAY)
