"""The attempts of a worker: takes what the runner says about them, runs them, keeps their ends.

Owns which attempts are held and how many slots they take. Knows connections only as an `Outlet`,
which may be absent: what is missed then is made good by `resume`.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol

import trio

from remote_runner.protocol.messages import (
    AHEAD_PER_SLOT,
    Ack,
    Closed,
    Draining,
    Kill,
    Message,
    Ready,
    Refused,
    Resume,
    Spawn,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Withdraw,
)
from remote_runner.types import DEFAULT_KILL_GRACE, Command, Outcome, Reason, StreamName
from simple_worker.attempts import HeldAttempt
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.processes import Child, Processes
from simple_worker.result_feed import ResultFeed
from simple_worker.spool import Spool
from simple_worker.spool_files import SpoolFolder
from simple_worker.waiting import MAX_STDIN, WaitingSpawn, WaitingSpawns

READ: Final = 64 * 1024
LATE: Final = 0.9
"""Share of its `detach` that a spawn may have been on its way, or have waited here, before it is
begun. The runner gives it up after all of it, counted from when it said something that would be
here by now."""
ASK: Final = 0.25
"""Share after which the runner is asked, so that what comes on a busy link need not wait."""
READERS: Final = 4
"""Attempts whose results are read at once. A disk that hangs takes no thread from others."""


class Outlet(Protocol):
    """Where what a worker has to say goes."""

    @property
    def detach(self) -> float:
        """Seconds after which the runner gives up a worker without a connection."""
        ...

    @property
    def silence(self) -> float:
        """Seconds since something of the runner arrived."""
        ...

    @property
    def lateness(self) -> float:
        """Seconds for which the runner may have said what is not here yet."""
        ...

    def ask(self, pause: float) -> None:
        """Have it say what it has to, unless it was asked in the last `pause` seconds."""
        ...

    def ask_again(self) -> None:
        """Have it say what it has to, unless it is being asked: its answer is looked at then."""
        ...

    def send(self, message: Message) -> None:
        """Say it at once."""
        ...

    def tell_free(self) -> None:
        """Say how many slots are free, after the ends that are on their way."""
        ...

    def offer(self, held: HeldAttempt) -> None:
        """An attempt may have something to send, in its turn."""
        ...


class Slots:
    """What this worker runs and holds.

    Args:
        processes: starts the children.
        count: attempts at once.
        worker_name: what jobs see as JOB_WORKER.
        now: wall clock, UNIX seconds.
        on_change: called when an attempt has come, has ended or is forgotten.
        spool: where output goes that does not fit into memory; None: nowhere.
    """

    def __init__(
        self,
        processes: Processes,
        count: int,
        worker_name: str,
        now: Callable[[], float],
        on_change: Callable[[], None],
        spool: SpoolFolder | None = None,
    ) -> None:
        self.count = count
        self.outlet: Outlet | None = None
        self.is_draining = False
        self.shortage: str | None = None
        """Why no new work is taken now: what this machine lacks."""
        self._processes = processes
        self._worker_name = worker_name
        self._now = now
        self._on_change = on_change
        self._spool = spool
        self._held: dict[str, HeldAttempt] = {}
        self._quiet: dict[Child, HeldAttempt] = {}
        """Children that need no task so far."""
        self._waiting = WaitingSpawns(count * MAX_STDIN)
        self._running = 0
        self._given_up = 0
        """Those of the running that are not held any more: for the runner their slots are free."""
        self._is_over = False
        """Whether nobody would end what began now."""
        self._reading = trio.CapacityLimiter(READERS)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run children until cancelled, which ends their trees."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._is_over = True
                    for child, held in self._quiet.items():
                        self._nursery.start_soon(self._attend, held, child)
        finally:
            for held in self._held.values():
                held.drop()

    @property
    def free(self) -> int:
        """Attempts that may be started now."""
        if self.shortage is not None:
            return 0
        return max(0, self.count - self._running - len(self._waiting))

    @property
    def free_as_told(self) -> int:
        """The same as the runner sees it, for whom one runs until its end has been told."""
        if self.shortage is not None:
            return 0
        taken = sum(not held.is_close_sent for held in self._held.values())
        return max(0, self.count - taken - len(self._waiting))

    @property
    def unfinished(self) -> int:
        """Attempts that run, or are to run."""
        return sum(held.is_running for held in self._held.values()) + len(self._waiting)

    @property
    def unconfirmed(self) -> int:
        """Attempts that have ended, and the runner has not said that it knows."""
        return sum(not held.is_running for held in self._held.values())

    @property
    def held(self) -> Collection[HeldAttempt]:
        """All that is not forgotten."""
        return self._held.values()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, nothing is to come."""
        return not self._held and not self._waiting

    def see_shortage(self, shortage: str | None) -> None:
        """The machine lacks something, so that there are no free slots; None: it does not."""
        before, self.shortage = self.shortage, shortage
        if (before is None) == (shortage is None):
            return
        if shortage is not None:
            self._give_back(shortage)
            self._send(Ready(0))
        elif self.outlet is not None:
            self.outlet.tell_free()
        self._on_change()

    def disconnect(self) -> None:
        """What has not begun never does: the runner knows so, as it is not told to hold it."""
        self.outlet = None
        self._waiting.clear()

    def drain(self) -> None:
        """Begin nothing more."""
        self.is_draining = True
        self._send(Draining())
        self._give_back("draining")

    def abandon(self) -> None:
        """End all that runs, at once; what has not begun never does."""
        self._give_back("the worker leaves")
        for held in self._held.values():
            held.abandon(0.0, "SIGKILL")
        self._on_change()

    def receive(self, message: Message) -> None:
        """What the runner says about attempts; the rest is ignored."""
        match message:
            case Spawn():
                self._spawn(message)
            case Stdin():
                self._take_input(message)
            case StdinEnd():
                self._waiting.complete(message.id)
            case Kill():
                self._kill(message)
            case Withdraw():
                self._refuse_waiting(message.id, "withdrawn")
            case Ack():
                if held := self._held.get(message.id):
                    held.output.ack(message.offset)
            case Resume():
                if held := self._held.get(message.id):
                    held.resume(message.offset, message.results)
                    self._offer(held)
            case Closed():
                self.forget(message.id)
            case Stale():
                if self._waiting.remove(message.id):
                    self._on_change()
                if held := self._held.get(message.id):
                    self.forget(message.id)
                    held.kill(Reason.ABANDONED)
        self.begin_waiting()  # what has come may begin, and what is gone keeps no slot

    def forget(self, attempt_id: str) -> None:
        """The runner has all of it, or will never want it."""
        if held := self._held.pop(attempt_id, None):
            self._given_up += held.is_running
            held.drop()
            self._on_change()

    def _spawn(self, spawn: Spawn) -> None:
        attempt_id = spawn.options.id
        if attempt_id is None or attempt_id in self._held or attempt_id in self._waiting:
            return
        if self.is_draining:
            self._send(Refused(attempt_id, "draining"))
        elif self.shortage is not None:
            self._refuse(attempt_id, self.shortage)
        elif self._running + len(self._waiting) >= self._most:
            self._send(Refused(attempt_id, "all slots are taken"))
        else:
            self._waiting.add(attempt_id, spawn)
            self._on_change()

    @property
    def _most(self) -> int:
        """Attempts that may run or wait here. None waits for a slot of one that was given up: the
        runner, who would ask for it else, does not know that it waits."""
        return self.count if self._given_up else self.count * (1 + AHEAD_PER_SLOT)

    def begin_waiting(self) -> None:
        """Start what has its input, as far as there are slots, and it is known that the runner
        still wants it: it may have given up what was on its way for long, and said so."""
        self._begin_waiting()
        self._processes.settle()

    def _begin_waiting(self) -> None:
        outlet, kept = self.outlet, 0
        if outlet is None or self._running >= self.count:
            return
        for waiting in self._waiting:
            if self._running + kept >= self.count or self.shortage is not None or self._is_over:
                return
            if not waiting.is_whole:
                # Its slot waits too. The runner may not know it as one that waits for another's,
                # and would not ask for it.
                kept += 1
            elif self._is_wanted(waiting, outlet) and not self._begin(waiting, outlet):
                return

    def _is_wanted(self, waiting: WaitingSpawn, outlet: Outlet) -> bool:
        """Whether the runner wants it, for all that is known here; if not, it is asked."""
        detach, lateness = _detach_of(waiting.spawn, outlet), outlet.lateness
        if lateness >= ASK * detach:
            outlet.ask(ASK * detach)
        if lateness < LATE * detach:
            return True
        outlet.ask_again()  # a clock may have been set since it was asked last
        now = trio.current_time()
        if waiting.asked is None:
            waiting.asked = now
        elif now >= waiting.asked + LATE * detach:
            self._refuse_waiting(
                waiting.id, f"the runner takes too long to answer for its detach of {detach:g} s"
            )
        return False

    def _give_back(self, why: str) -> None:
        """What has not begun is for others."""
        for waiting in self._waiting:
            self._refuse_waiting(waiting.id, why)

    def _take_input(self, message: Stdin) -> None:
        why_not = self._waiting.feed(message.id, message.data)
        if why_not is not None:
            self._refuse_waiting(message.id, why_not)

    def _refuse_waiting(self, attempt_id: str, why: str) -> None:
        """It never begins, if it has not begun."""
        if self._waiting.remove(attempt_id):
            self._send(Refused(attempt_id, why))
            self._on_change()

    def _kill(self, kill: Kill) -> None:
        attempt_id = kill.id or ""
        if self._waiting.remove(attempt_id):
            held = self._hold(attempt_id)
            held.end(Outcome(Reason.KILLED))
            self._offer(held)
        elif held_now := self._held.get(attempt_id):
            held_now.kill(Reason.KILLED, kill.signal, _seconds(kill.grace_ms))

    def _hold(self, attempt_id: str, detach: float | None = None) -> HeldAttempt:
        assert self._nursery is not None
        on_more = partial(self._offer_again, attempt_id)
        spool = Spool(attempt_id, self._spool, self._nursery.start_soon, on_more)
        held = HeldAttempt(attempt_id, spool, detach)
        self._held[attempt_id] = held
        self._on_change()
        return held

    def _begin(self, waiting: WaitingSpawn, outlet: Outlet) -> bool:
        attempt_id, options = waiting.id, waiting.spawn.options
        self._waiting.remove(attempt_id)
        self._running += 1
        launch = _launch(waiting, outlet, {"JOB_WORKER": self._worker_name})
        return self._processes.begin(
            launch, partial(self._has_begun, attempt_id, _seconds(options.detach_ms))
        )

    def _has_begun(
        self, attempt_id: str, detach: float | None, child: Child | SpawnFailure
    ) -> None:
        if isinstance(child, SpawnFailure):
            self._running -= 1
            if child.is_refusal:
                self.see_shortage(child.line)
                self._refuse(attempt_id, child.line)
                return
            held = self._hold(attempt_id)
            held.output.add("stderr", child.output)
            held.end(child.outcome)
            self._offer(held)
            self._begin_waiting()
            return
        held = self._hold(attempt_id, detach)
        held.child = child
        self._send(Started(attempt_id, child.pid, int(self._now() * 1000)))
        self._quiet[child] = held
        child.watch(partial(self._leave_quiet, held, child))

    def _leave_quiet(self, held: HeldAttempt, child: Child, outcome: Outcome | None) -> None:
        assert self._nursery is not None
        del self._quiet[child]
        if outcome is None:
            self._nursery.start_soon(self._run, held, child)
        else:
            self._end(held, child, outcome)
            self._begin_waiting()

    async def _attend(self, held: HeldAttempt, child: Child) -> None:
        """Run one that was quiet, unless it has ended, or left that by a kill, just now."""
        if self._quiet.pop(child, None) is not None:
            await self._run(held, child)

    async def _run(self, held: HeldAttempt, child: Child) -> None:
        async def keep(stream: StreamName, data: bytes) -> None:
            held.output.add(stream, data)
            self._offer(held)
            if not held.output.has_room:
                await held.output.wait_for_room()

        self._end(held, child, await child.run(keep, READ))
        self.begin_waiting()

    def _end(self, held: HeldAttempt, child: Child, outcome: Outcome) -> None:
        held.end(outcome, self._results_of(held, child))
        self._running -= 1
        if self._held.get(held.id) is held:
            self._offer(held)
        else:
            self._given_up -= 1
        self._on_change()

    def _results_of(self, held: HeldAttempt, child: Child) -> ResultFeed | None:
        archive = child.results
        if archive is None or self._nursery is None:
            return None
        on_more = partial(self._offer_again, held.id)
        feed = ResultFeed(archive, self._reading, self._nursery.start_soon, on_more)
        if held.id not in self._held:
            feed.drop()  # it became stale while it ran
        return feed

    def _refuse(self, attempt_id: str, shortage: str) -> None:
        """The runner must not take the slot that becomes free so for one that it may fill."""
        self._send(Refused(attempt_id, shortage))
        self._send(Ready(0))

    def _send(self, message: Message) -> None:
        if self.outlet is not None:
            self.outlet.send(message)

    def _offer(self, held: HeldAttempt) -> None:
        if self.outlet is not None:
            self.outlet.offer(held)

    def _offer_again(self, attempt_id: str) -> None:
        if held := self._held.get(attempt_id):
            if held.output.is_cut:
                held.kill(Reason.ABANDONED)
            self._offer(held)


def _detach_of(spawn: Spawn, outlet: Outlet) -> float:
    """Seconds after which the runner gives it up without contact."""
    detach = _seconds(spawn.options.detach_ms)
    return outlet.detach if detach is None else detach


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _launch(waiting: WaitingSpawn, outlet: Outlet, extra_env: Mapping[str, str]) -> Launch:
    spawn, stdin = waiting.spawn, waiting.stdin
    options = spawn.options
    grace = _seconds(options.kill_grace_ms)
    command = Command(
        command=spawn.command,
        args=spawn.args,
        cwd=options.cwd,
        env=options.set_env or {},
        shell=options.shell,
        argv0=options.argv0,
        stdin=None if stdin is None else bytes(stdin),
        timeout=_seconds(options.timeout_ms or None),  # as for Node, 0 is none
        kill_signal=options.kill_signal or "SIGTERM",
        kill_grace=DEFAULT_KILL_GRACE if grace is None else grace,
        max_output=options.max_output,
        max_results=options.max_results or 0,
        mask=options.mask,
    )
    return Launch(
        command,
        options.env,
        options.uid,
        options.gid,
        extra_env,
        _detach_of(spawn, outlet),
        outlet.silence,
    )
