"""One run: the world that a seed describes, its faults, its healing, and the verdict."""

import gc
import signal
from dataclasses import dataclass, replace
from random import Random

import trio
import trio.testing

from remote_runner.protocol.messages import Resume
from tests.sim import actors
from tests.sim.actors import Actor
from tests.sim.bus import Bus
from tests.sim.clients import AWAY, Client, Gone
from tests.sim.disk import Database, Files
from tests.sim.faults import Faults
from tests.sim.history import History
from tests.sim.invariants import Checks
from tests.sim.lives import ServerLife, WorkerLife
from tests.sim.network import Network
from tests.sim.scenario import FAULTS_END, draw

HEALED_WITHIN = 1200.0
"""Seconds of virtual time after the faults in which every job must have ended."""
PATIENCE = 30.0
"""Seconds of processor time, a thousand times what a run takes, after which it is going nowhere."""
MAX_EVENTS = 30_000
LEAVES_WITHIN = 120.0
RESTART = 1.0
"""Seconds until a server that could not start is started again."""
EPOCH = 1_700_000_000.0


@dataclass(frozen=True)
class Verdict:
    """What came of a seed. `code` and `text` say what was violated first; None: nothing."""

    seed: int
    code: str | None
    text: str | None
    history: History
    virtual_seconds: float


class World:
    """Everything of one run."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.history = History()
        self.servers = dict.fromkeys(scenario.servers)
        """The newest life of each server, by name."""
        self.cut_off = set()
        """Servers that do not reach the database."""
        self.bus = Bus(self)
        self.route = Random(f"route {scenario.seed}")
        self.network = Network(Random(f"network {scenario.seed}"))
        self.files = Files(Random(f"files {scenario.seed}"))
        self.database = Database()
        self.jitter = Random(f"jitter {scenario.seed}")
        self.disk_rng = Random(f"disk {scenario.seed}")
        self.disk_pause = scenario.slow_disk
        self.clock_error = 0.0
        """Seconds by which somebody has set the wall clock wrong."""
        self.checks = Checks(self, self.fail)
        self.faults = Faults(self)
        self.actor = Actor(self, "world")
        self.violation = None
        self.workers = {}
        """The newest life of each worker, by name."""
        self.emitters = []
        self.sessions = []
        """All connections that there ever were, and those that a server accepted."""
        self._boots = {}
        self._lives = 0
        self._pids = 0
        self._ids = 0
        self._scope = trio.CancelScope()
        self._nursery = None

    def close(self):
        self.database.close()
        self.files.close()

    # --- what everybody needs ---

    def wall(self):
        return EPOCH + self.clock_error + trio.current_time()

    def next_pid(self):
        self._pids += 1
        return self._pids

    def program(self, name):
        return self.scenario.jobs[int(name)].program

    def log_folder(self, job_id, number):
        return self.files.root / "logs" / str(job_id // 1000) / str(job_id) / str(number)

    def worker_of_boot(self, boot):
        return self._boots.get(boot)

    def note(self, moment, *what):
        """Something happened: it is told, and a fault may follow at once."""
        actor = actors.current.get()
        if len(self.history) > MAX_EVENTS:
            self.fail("I0", f"more than {MAX_EVENTS} events: this does not come to rest")
        if actor.is_on:
            self.history.add(trio.current_time(), actor.name, moment, *what)
            self.faults.on_moment(moment)

    def fail(self, code, text):
        """Something is wrong: the run ends, with this as its verdict."""
        if self.violation is None:
            self.violation = code, text
            self.history.add(trio.current_time(), "checks", f"VIOLATION {code}: {text}")
        self.faults.stop()
        for life in filter(None, [*self.servers.values(), *self.workers.values()]):
            life.actor.go_on()  # one that stands still would never leave
        self._scope.cancel()

    # --- what the taps tell ---

    def on_process_start(self, process):
        self.checks.on_process_start(process)
        self.note("process started", process.name)

    def on_process_end(self, process):
        self.checks.on_process_end(process)
        self.note("process ended", process.name, str(process.exit_code), str(process.signal))

    def on_commit(self, job_id, what, is_revived):
        self.checks.on_commit(job_id, is_revived)
        self.note(what.partition(" ")[0], f"{what} of job {job_id} is durable")

    def on_sent(self, message):
        actor = actors.current.get()
        if actor.is_on:
            self.checks.on_sent(actor, message)
            self.note(f"sent {type(message).__name__}", message)

    def on_received(self, message):
        """What the receiver is to see of it."""
        actor = actors.current.get()
        if actor.is_on:
            self.checks.on_received(actor, message)
            self.note(f"got {type(message).__name__}", message)
        if isinstance(message, Resume):
            repeats = self._boots[actor.name].plan.repeats
            return replace(message, offset=max(0, message.offset - repeats))
        return message

    async def use_disk(self, function):
        """Blocking work of the current actor: takes a while, and a crash may fall into it."""
        actor = actors.current.get()
        rng, pause = self.disk_rng, self.disk_pause
        self.note("commit begun")
        await actor.block(rng.random() * pause if pause else 0.0)
        try:
            return function()
        finally:
            actor.require_power()
            if pause and rng.random() < 0.5:
                await actor.block(rng.random() * pause)

    # --- lives ---

    @property
    def is_shared(self):
        """Whether several servers have the queue."""
        return len(self.servers) > 1

    def start(self, function):
        """Run it as a task of nobody: it outlives whoever starts it."""
        self._nursery.start_soon(function)

    def start_server(self, name):
        self._lives += 1
        life = self.servers[name] = ServerLife(self, name, self._lives)
        self._nursery.start_soon(self._live, life)

    def new_id(self):
        """An id that nothing else has."""
        self._ids += 1
        return f"{actors.current.get().name}:{self._ids}"

    def start_worker(self, plan):
        self._lives += 1
        life = WorkerLife(self, plan, self._lives)
        self.workers[plan.name] = self._boots[life.boot] = life
        self._nursery.start_soon(self._live, life)

    async def _live(self, life):
        try:
            await life.run()
        except* Exception as errors:
            self.fail("I0", f"{life.actor.name} failed: {_innermost(errors)!r}")
        if isinstance(life, ServerLife) and life.has_failed:
            await trio.sleep(RESTART)
            self.start_server(life.name)

    async def call(self, request):
        """What a server says to this; of several, any that is there."""
        up = [life for life in self.servers.values() if life is not None and life.is_up]
        if not up:
            raise Gone(was_asked=False)
        life = self.route.choice(up) if self.is_shared else up[0]
        return await life.call(request)

    # --- the run ---

    async def main(self):
        actors.current.set(self.actor)
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                for name in self.servers:
                    self.start_server(name)
                for plan in self.scenario.workers:
                    self.start_worker(plan)
                clients = [Client(self, plan) for plan in self.scenario.jobs]
                for client in clients:
                    self._nursery.start_soon(client.run)
                async with trio.open_nursery() as faulty:
                    faulty.start_soon(self.faults.run, faulty)
                    await trio.sleep(FAULTS_END)
                    faulty.cancel_scope.cancel()
                await self._heal()
                await self._check_end(clients)

    async def _heal(self):
        """No more faults: everything is repaired, and everything must end."""
        self.faults.stop()
        self.history.add(trio.current_time(), "world", "HEALED")
        self.disk_pause = self.scenario.slow_disk
        for link in self.network.links.values():
            link.release()
        self.cut_off.clear()
        for life in list(self.servers.values()):
            life.actor.go_on()
            if not life.is_gone and (not life.actor.is_on or life.is_stopping):
                await self._wait_for_end(life)
                if self.servers[life.name] is life and not life.has_failed:
                    self.start_server(life.name)
        for life in list(self.workers.values()):
            life.disk.is_full = False
            life.actor.go_on()
            if life.is_gone:
                continue
            if not life.actor.is_on or life.is_leaving:
                await self._wait_for_end(life)
                self.start_worker(life.plan)

    async def _wait_for_end(self, life):
        with trio.move_on_after(LEAVES_WITHIN) as leaving:
            await life.ended.wait()
        if leaving.cancelled_caught:
            self.fail("I11", f"{life.actor.name} does not leave")

    async def _check_end(self, clients):
        with trio.move_on_after(HEALED_WITHIN) as healing:
            for client in clients:
                await client.done.wait()
            for job_id in self._all_jobs():
                job = await self._ask(lambda queue, job_id=job_id: queue.wait(job_id))
                if not job.state.is_terminal:
                    self.fail("I1", f"job {job_id} is {job.state} after its end")
            while not all(life.is_idle for life in self.servers.values()):
                await trio.sleep(1)
        if healing.cancelled_caught:
            open_jobs = [j for j in self._all_jobs() if not self._state(j).is_terminal]
            self.fail("I1", f"jobs {open_jobs} have not ended {HEALED_WITHIN:g} s after the faults")
        self.disk_pause = 0.0
        await self._check_outputs()
        await trio.sleep(1)  # a reader may see an end a moment before its commit has returned
        for life in self.servers.values():
            if life.is_up:
                self.checks.check_told(life.actor)
        await self._check_nothing_left()

    def _all_jobs(self):
        """Also those whose submit nobody heard of."""
        return sorted(job.id for job in self.database.store.page(limit=1000))

    def _state(self, job_id):
        return self.database.store.get(job_id).state

    async def _ask(self, request):
        while True:
            try:
                return await self.call(request)
            except AWAY:
                await trio.sleep(0.3)

    async def _check_outputs(self):
        async def read(queue):
            for job_id in self._all_jobs():
                cap = (await queue.get(job_id)).spec.max_log_size
                for attempt in await queue.attempts(job_id):
                    name, size = f"{job_id}.{attempt.number}", 0
                    records = queue.records(job_id, attempt=attempt.number, follow=False)
                    async for record in records:
                        if record.offset != size:
                            self.fail("I5", f"{name} has {record.offset} after {size} bytes")
                        size += len(record.data)
                        self.checks.check_output(
                            name, record.offset, record.stream, record.data, "at the end"
                        )
                    self.checks.check_whole(attempt, cap, size)
                    await self._check_results(queue, job_id, attempt.number)

        await self._ask(read)

    async def _check_results(self, queue, job_id, number):
        content = None
        for file in (await queue.results(job_id, attempt=number)).files:
            _, pieces = await queue.read_result(job_id, file.name, attempt=number)
            content = b"".join([piece async for piece in pieces])
        self.checks.check_results(f"{job_id}.{number}", content)

    async def _check_nothing_left(self):
        for life in self.workers.values():
            life.drain()
        for life in [*self.workers.values(), *self.servers.values()]:
            if isinstance(life, ServerLife):
                life.stop()
            await self._wait_for_end(life)
        for process in self.checks.processes.values():
            if process.is_alive:
                self.fail("I11", f"{process.name} still lives")
        with trio.move_on_after(LEAVES_WITHIN) as leaving:
            while self._nursery.child_tasks:
                await trio.sleep(1)
        if leaving.cancelled_caught:
            self.fail("I11", f"tasks are left: {[t.name for t in self._nursery.child_tasks]}")


def _take_too_long(number, frame):
    raise TimeoutError(f"{PATIENCE:g} s of processor time and no end")


def _innermost(error):
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, trio.TrioInternalError) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def run(seed, servers=None):
    """Run a seed, maybe with so many servers as it does not say itself; needs `taps.installed`."""
    world = World(draw(seed, servers))
    trio._core._run._r = Random(f"scheduler {seed}")
    clock = trio.testing.MockClock(autojump_threshold=0)
    gc.disable()
    signal.signal(signal.SIGVTALRM, _take_too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        trio.run(world.main, clock=clock)
    except Exception as error:
        world.violation = world.violation or ("I0", f"the run failed: {_innermost(error)!r}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        gc.enable()
        world.close()
    code, text = world.violation or (None, None)
    return Verdict(seed, code, text, world.history, clock.current_time())
