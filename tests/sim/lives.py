"""One life of a server, and one of a worker: the real code in the hands of an actor."""

import errno
from functools import partial

import trio

from queued_runner.config import Settings
from queued_runner.service import open_queue
from queued_runner.store.base import Deposed, StoreAway
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings
from simple_worker.session import Identity
from simple_worker.spool_files import SpoolFolder
from simple_worker.worker import Server, Worker
from tests.sim import actors
from tests.sim.actors import Actor, Crashed
from tests.sim.clients import Gone
from tests.sim.processes import Machine

MAX_CHUNK = 100


class ServerLife:
    """A server, from its start to its end, whichever way."""

    def __init__(self, world, name, number):
        self.name = name
        self.actor = Actor(world, f"{name}-{number}", server=name)
        self.is_gone = False
        """Whether its machine never comes back."""
        self._world = world
        self._stop = trio.Event()
        self._drains = False
        self._queue = None
        self._was_up = False
        self.has_failed = False
        """Whether it could not start."""
        self._calls = {}
        self.over = trio.Event()
        """Set when it can be replaced; what is left of a dead one may still be cleared away."""
        self.ended = trio.Event()

    @property
    def is_stopping(self):
        return self._stop.is_set()

    @property
    def is_up(self):
        return self.actor.is_on and self._queue is not None

    @property
    def is_idle(self):
        """Whether it has no attempt any more."""
        return not self.is_up or not self._queue._dispatcher.live

    async def run(self):
        actors.current.set(self.actor)
        world, plan = self._world, self._world.scenario
        try:
            with self.actor.life:
                remote = RemoteRunner(
                    port=1,
                    settings=ServerSettings(
                        token="token",
                        heartbeat=plan.heartbeat,
                        detach=plan.detach,
                        max_chunk=MAX_CHUNK,
                    ),
                )
                root = world.files.root
                (root / self.name).mkdir(exist_ok=True)
                settings = Settings(
                    data_dir=root / self.name,
                    logs=root,
                    detach=plan.detach,
                    heartbeat=plan.heartbeat,
                )
                async with open_queue(settings, [remote]) as self._queue:
                    self._was_up = True
                    world.note("server up")
                    world.checks.check_jobs_exist()
                    await self._stop.wait()
                    self._queue.stop_claiming()
                    if self._drains:
                        await self._queue.drain()
                    self._hang_up()
        except* Crashed:
            pass
        except* (StoreAway, Deposed):
            if self._was_up:
                raise
            self.has_failed = True
            world.note("cannot start")
        finally:
            self.actor.is_on = False
            self._hang_up()
            self.over.set()
            self.ended.set()

    def stop(self, drains=False):
        self._drains = drains
        self._stop.set()

    def crash(self, how):
        self.actor.crash()
        self._hang_up()
        self._world.network.lose(self.actor, how)
        self.over.set()

    def _hang_up(self):
        self._queue = None
        for scope in list(self._calls):
            scope.cancel()

    async def call(self, request):
        """What `request(queue)` gives, run in this process.

        Raises:
            Gone: the process died before, or the server left.
        """
        token = actors.current.set(self.actor)
        try:
            with trio.CancelScope() as scope:
                self._calls[scope] = None
                try:
                    result = await request(self._queue)
                finally:
                    del self._calls[scope]
                if self.actor.is_on:
                    return result
        except Crashed:
            pass
        finally:
            actors.current.reset(token)
        await trio.lowlevel.checkpoint_if_cancelled()
        raise Gone(was_asked=True)


class WorkerDisk(SpoolFolder):
    """The disk of a worker, which can be full."""

    is_full = False

    def reserve(self, size):
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space left")
        super().reserve(size)

    def shortage(self):
        return "the disk is full" if self.is_full else None


class WorkerLife:
    """One process of a worker: one boot."""

    def __init__(self, world, plan, number):
        self.plan = plan
        self.actor = Actor(world, f"{plan.name}-{number}", plan.rate)
        self.boot = self.actor.name
        self.machine = Machine(world)
        self.is_leaving = False
        self.is_gone = False
        """Whether its machine never comes back."""
        self.over = trio.Event()
        self.ended = trio.Event()
        self._world = world
        self._links = [world.network.link(plan.name, name) for name in world.servers]
        self.disk = WorkerDisk(world.files.root, plan.spool, lambda line: world.note("says", line))
        self._worker = Worker(
            Identity(plan.name, self.boot, plan.name, plan.slots, plan.labels, "token"),
            [Server(partial(self._dial, link), link.server) for link in self._links],
            self.machine,
            rng=world.jitter.random,
            now=world.wall,
            say=lambda line: world.note("says", line),
            spool=self.disk,
        )

    async def _dial(self, link):
        return await self._world.network.dial(link)

    async def run(self):
        actors.current.set(self.actor)
        try:
            with self.actor.life:
                await self._worker.run()
                self._world.note("left")
        except* Crashed:
            pass
        finally:
            self.actor.is_on = False
            self.machine.crash()
            self.over.set()
            self.ended.set()

    def drain(self):
        self.is_leaving = True
        self._as_itself(self._worker.drain)

    async def stop(self):
        actors.current.set(self.actor)
        await self._worker.stop()

    def _as_itself(self, act):
        token = actors.current.set(self.actor)
        try:
            act()
        finally:
            actors.current.reset(token)

    def crash(self, how):
        self.actor.crash()
        self.machine.crash()
        self._world.network.lose(self.actor, how)
        self.over.set()
