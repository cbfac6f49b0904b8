"""The types that runners, workers and the queue share: what to run, what came out, how it ended.

Pure data and the plug (`JobRunner`). Seconds and bytes here; Node's units only on the wire.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol

from remote_runner.value import value

StreamName = Literal["stdout", "stderr"]

DEFAULT_KILL_GRACE = 10.0
"""Seconds between the first signal and SIGKILL (the same as Buildkite's agent)."""

CAN_MASK: Final = "\x1fmask"
"""The label, which nobody can ask for, of room where the `mask` of a `Command` is obeyed."""


WIDEST: Final = 1000
"""Slots that one run may take at most, all of them at one worker."""


class Reason(StrEnum):
    """Why an attempt ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    KILLED = "killed"
    SPAWN_ERROR = "spawn-error"
    ABANDONED = "abandoned"
    """The worker stopped it by itself: it was out of contact, or it was told to leave at once."""
    WORKER_LOST = "worker-lost"
    UNHEARD = "unheard"
    """Its worker was lost while it waited there for a slot, as far as is known: it may have begun
    in the last moment. It does not count against the job."""
    REFUSED = "refused"
    """Never started; it does not count against the job."""
    GIVEN_BACK = "given-back"
    """Never started, because others may have room sooner; it does not count either."""
    STOPPED = "stopped"
    """Ended by the program that ran it, which left as planned; it does not count either."""


@value
class Command:
    """One command to execute, with everything that shapes its process.

    `env` is added to the worker's small base environment. `shell` is True for `/bin/sh`, or the
    path of a shell. `stdin` is the whole input; None connects /dev/null. `timeout` and
    `kill_grace` are seconds. `max_output` is bytes of both streams: what comes after them is
    counted and dropped, and the command goes on. `detach` is seconds that it may run on while its
    worker is out of contact: the worker ends it before they are over, and the runner gives it up
    when they are. None: as long as the runner has it for all. `max_results` is bytes of the files
    that are taken from `results` in its scratch directory once it has ended; 0: none are. `mask`
    are secrets: each, in any form (see `mask.py`), is `***` in the output that leaves the worker.
    `slots` are how many of one worker's it takes, 1 to `WIDEST`.
    """

    command: str
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    shell: bool | str = False
    argv0: str | None = None
    stdin: bytes | None = None
    timeout: float | None = None
    kill_signal: str = "SIGTERM"
    kill_grace: float = DEFAULT_KILL_GRACE
    max_output: int | None = None
    detach: float | None = None
    max_results: int = 0
    mask: tuple[str, ...] = field(default=(), repr=False)
    slots: int = 1


@value
class Output:
    """A piece of output. `offset` counts the bytes of both streams that came before it.

    `is_awaited`: who sent it waits until it is durable, and says nothing more before that.
    """

    stream: StreamName
    data: bytes
    offset: int
    is_awaited: bool = False


@value
class Outcome:
    """How one attempt ended.

    `exit_code` is None when a signal ended the process; `signal` is its name (`"SIGKILL"`).
    `duration` and `cpu_time` are seconds, `max_rss` bytes. `output_bytes` counts what the
    command wrote to both streams, also what was dropped.
    """

    reason: Reason
    exit_code: int | None = None
    signal: str | None = None
    output_bytes: int = 0
    duration: float | None = None
    max_rss: int | None = None
    cpu_time: float | None = None

    @property
    def is_success(self) -> bool:
        """Whether the command ran to its end and exited with 0."""
        return self.reason is Reason.EXIT and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker, as people see it.

    `state` is `greeting`, `ready`, `draining` (it takes nothing new, and has something that runs),
    `drained` (by order of the server, and nothing runs there any more), or `away` (not connected,
    and drained when it comes back). `is_leaving`: it drains because it leaves by itself.
    `can_mask`: it may be given commands with a `mask`. `widest`: the most slots that one of them
    may take there; None: as many as there are. `taken`: how many slots are taken by what runs
    there; None: one each. `server` is the name of the server that it is connected to, where several
    share a queue; else empty.
    """

    id: str
    name: str
    state: str
    slots: int
    free: int
    labels: Mapping[str, str]
    version: str
    address: str
    running: tuple[str, ...] = ()
    is_baseline: bool = False
    is_leaving: bool = False
    can_mask: bool = False
    widest: int | None = None
    taken: int | None = None
    server: str = ""

    @property
    def busy(self) -> int:
        """How many of its slots are taken by what runs there."""
        return len(self.running) if self.taken is None else self.taken


class WorkerEvent(StrEnum):
    """What may happen to a worker."""

    JOINED = "joined"
    LEFT = "left"
    LEAVING = "leaving"
    """It takes nothing new any more, and leaves when what runs there has ended."""
    DRAINING = "draining"
    DRAINED = "drained"
    """It was told to drain, and nothing runs there any more."""
    RESUMED = "resumed"


class Slot(NamedTuple):
    """Room for one run at a worker: its name, its stable id, and the id of its process.

    A worker is offered once for each run of one slot that it takes. `of` are all slots that a run
    of several may take there, and `free` those of them that are free; 0: what is placed there waits
    for one.
    """

    worker: str
    worker_id: str
    boot: str
    of: int = 1
    free: int = 1


@value
class Offer:
    """Room at workers that carry exactly `labels`, the slot that is to be taken first in front.

    Those that hide what a command's `mask` says carry `CAN_MASK` too, with the value `""`.
    """

    labels: Mapping[str, str]
    slots: tuple[Slot, ...]


def satisfies(labels: Mapping[str, str], needs: Mapping[str, str]) -> bool:
    """Whether a worker with `labels` may run something that `needs` these."""
    return all(labels.get(key) == value for key, value in needs.items())


def all_needs(needs: Mapping[str, str], mask: Collection[str]) -> Mapping[str, str]:
    """What a worker must have for something with these `needs` and this `mask`."""
    return {**needs, CAN_MASK: ""} if mask else needs


class Run(Protocol):
    """A handle on one run that a `JobRunner` has accepted. All methods are synchronous."""

    @property
    def id(self) -> str: ...
    @property
    def worker(self) -> str:
        """The name of the worker that runs it."""
        ...

    @property
    def worker_id(self) -> str:
        """The stable id of that worker."""
        ...

    def ack(self, offset: int) -> None:
        """Everything below `offset` is durable: the runner may forget it."""
        ...

    def ack_result(self, offset: int) -> None:
        """Results below `offset` need no memory any more; they are not forgotten before the run."""
        ...

    def forget(self) -> None:
        """The outcome is durable: the runner may forget the run. Call once, after `on_closed`."""
        ...

    def abandon(self) -> None:
        """Another runner has this run by now: forget it, and say nothing of it to anybody."""
        ...

    def kill(self, signal: str | None = None, grace: float | None = None) -> None:
        """Signal the process group, SIGKILL it after `grace` seconds; None: as the command says.

        What has left the group is ended by SIGKILL once the main process has ended.
        """
        ...


class Observer(Protocol):
    """What a `JobRunner` tells about one run: synchronous, quick, called on the event loop.

    `on_closed` is the last call. Output arrives in order and without gaps, and after all of it the
    results (`results.py`), if the command may leave some.
    """

    def on_started(self, run: Run, pid: int | None) -> None: ...
    def on_output(self, run: Run, output: Output) -> None: ...
    def on_result(self, run: Run, data: bytes, offset: int) -> None: ...
    def on_closed(self, run: Run, outcome: Outcome) -> None: ...

    def is_repeat(self, run: Run, output: Output) -> bool:
        """Whether output that has come before is the same again, as far as it is still at hand."""
        ...


@dataclass(frozen=True, slots=True)
class Adoption:
    """Whose a presented run is: its observer, and how many bytes of output and results are known.

    `max_output`, `detach` and `slots` are as in its `Command`.
    """

    observer: Observer
    offset: int
    max_output: int | None = None
    detach: float | None = None
    results: int = 0
    slots: int = 1


Waiting = Callable[[], Awaitable[None]]
"""Returns once something is so."""


class Host(Protocol):
    """What a `JobRunner` asks of, and tells to, the one who feeds it."""

    @property
    def id(self) -> str:
        """The same after a restart, for as long as it may `adopt` what it ran before; empty: it
        never does."""
        ...

    def on_capacity(self) -> None:
        """There may be more room than before: look at `offers()` again."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other runners adopt from the same one: a worker that one of them waits for may
        not be kept alive here before `prepare` has returned. One that is alone need not wait for
        long."""
        ...

    async def prepare(self, worker: WorkerInfo, boot: str, connection: int) -> Waiting:
        """What a worker holds is this runner's from then on; wait until it can be adopted, too.

        `connection` counts those of this process (`boot`), 0: it does not say.

        Raises:
            NotNow: it cannot be heard now, or has a newer connection to another runner.
        """
        ...

    def adopt(self, run: Run, size: int) -> Adoption | None:
        """A worker still holds a run that this runner did not start. None: it is stale, end it.

        `size` is how many bytes of output there are so far, as the worker says.
        """
        ...

    def on_worker_ready(self, worker_id: str, boot: str, held: frozenset[str]) -> None:
        """A worker has listed all that it holds: whatever else was its is dead.

        What was given to this very process (`boot`) and is not held has never begun there.
        """
        ...

    def on_worker(self, event: WorkerEvent, worker: WorkerInfo) -> None:
        """Something has happened to a worker; `worker` is as it was just before, or is now."""
        ...

    def on_stale(self) -> None:
        """A worker spoke of a run that is not its own any more; it had no effect."""
        ...

    def on_protocol_error(self) -> None:
        """A peer has lost its connection for what it sent."""
        ...


class JobRunner(Protocol):
    """The plug: anything that can run a `Command` and yield its output and its outcome.

    `open(host)` is entered once; while it is entered the other methods may be called. All that is
    promised stands in docs/plugs.md, and as tests in `queued_runner.testing.conformance`.
    """

    def open(self, host: Host | None = None) -> AbstractAsyncContextManager[None]: ...

    def offers(self, limit: int) -> Sequence[Offer]:
        """The room there is now, one offer a set of labels, each with at most `limit` slots."""
        ...

    def start(
        self,
        run_id: str,
        command: Command,
        needs: Mapping[str, str],
        observer: Observer,
        worker_id: str | None = None,
    ) -> Run:
        """Place and start a run, at the worker given or at any that suits; never blocks.

        One whose command has a `mask` only where that is obeyed; one of several slots only where as
        many are free.

        Raises:
            NoWorkerAvailable: nothing with these labels has its slots free now, or that worker not.
            DuplicateRun: `run_id` is already running here.
        """
        ...

    def workers(self) -> Sequence[WorkerInfo]: ...

    def speak_until(self, deadline: float) -> None:
        """Say nothing to workers from `deadline` on, a time of trio's clock, unless a later one is
        given: they would take it for a sign that what they run is still theirs. It must hold too
        where this process has stood still. Where there are no connections there is nothing to do.
        """
        ...

    def hang_up(self) -> None:
        """End the connections with all workers, who may come back at once: the host cannot be
        reached. Where there are none there is nothing to do."""
        ...

    def drain(self, worker_id: str) -> None:
        """Place nothing new at this worker, now and whenever it connects; what runs goes on.

        Runs that have not begun are given back. A worker that is not known is remembered.
        """
        ...

    def resume(self, worker_id: str) -> None:
        """Take back a `drain`."""
        ...


OutputHandler = Callable[[Output], None]
