"""What a `JobRunner` tells, kept and checked: the observer of one run, and the host of them all.

They hold the runner to its promises as it speaks: a call out of turn is an AssertionError at once,
in the runner's own stack.
"""

import trio

from remote_runner.types import (
    Adoption,
    Host,
    Observer,
    Outcome,
    Output,
    Reason,
    Run,
    Waiting,
    WorkerEvent,
    WorkerInfo,
)


class Recorder(Observer):
    """The observer of one run: keeps what it is told, and checks that it is told in order.

    With `acks` it acknowledges output as soon as it has it, and forgets the run at its end.
    """

    def __init__(self, *, acks: bool = True) -> None:
        self.acks = acks
        self.outputs: list[Output] = []
        self.size = 0
        self.results = b""
        """What the command left as results, as it travels."""
        self.started: list[tuple[str, int | None]] = []
        """The id of the run and the pid, once it has started."""
        self.outcome: Outcome | None = None
        self.closed = trio.Event()
        self._grown = trio.Event()

    @property
    def data(self) -> bytes:
        """All output, both streams, in the order in which it came."""
        return b"".join(output.data for output in self.outputs)

    @property
    def streams(self) -> list[str]:
        """The stream of each piece of output."""
        return [output.stream for output in self.outputs]

    def text(self, stream: str) -> str:
        """What one stream carried."""
        return b"".join(item.data for item in self.outputs if item.stream == stream).decode()

    async def until(self, data: bytes) -> None:
        """Wait until this is in the output.

        Raises:
            AssertionError: the run ended without it.
        """
        while data not in self.data:
            _require(self.outcome is None, f"the run ended before it said {data!r}: {self.data!r}")
            await self._grown.wait()

    async def more_than(self, size: int) -> None:
        """Wait until there are more bytes of output than this.

        Raises:
            AssertionError: the run ended without them.
        """
        while self.size <= size:
            _require(self.outcome is None, f"the run ended after {self.size} bytes of output")
            await self._grown.wait()

    async def end(self) -> Outcome:
        """How the run ended, once it has."""
        await self.closed.wait()
        assert self.outcome is not None
        return self.outcome

    # --- the observer ---

    def on_started(self, run: Run, pid: int | None) -> None:
        _require(self.outcome is None, "on_started comes before on_closed")
        _require(not self.started, "on_started comes once")
        _require(not self.outputs, "on_started comes before any output")
        self.started.append((run.id, pid))

    def on_output(self, run: Run, output: Output) -> None:
        _require(self.outcome is None, "no output comes after on_closed")
        _require(
            output.offset == self.size,
            f"output at offset {output.offset} does not follow the {self.size} bytes before it",
        )
        _require(len(output.data) > 0, "a piece of output has at least one byte")
        self.outputs.append(output)
        self.size += len(output.data)
        self._tell()
        if self.acks:
            run.ack(self.size)

    def is_repeat(self, run: Run, output: Output) -> bool:
        return self.data[output.offset :][: len(output.data)] == output.data

    def on_result(self, run: Run, data: bytes, offset: int) -> None:
        _require(self.outcome is None, "no result comes after on_closed")
        _require(
            offset == len(self.results),
            f"a result at offset {offset} does not follow the {len(self.results)} bytes before it",
        )
        self.results += data
        if self.acks:
            run.ack_result(len(self.results))

    def on_closed(self, run: Run, outcome: Outcome) -> None:
        _require(self.outcome is None, "on_closed comes once")
        _require(isinstance(outcome.reason, Reason), "an outcome has a Reason")
        self.outcome = outcome
        if self.acks:
            run.forget()
        self.closed.set()
        self._tell()

    def _tell(self) -> None:
        self._grown.set()
        self._grown = trio.Event()


class RecordingHost(Host):
    """The host of a runner that nothing was running on before: keeps what it is told."""

    id = "recording"
    is_shared = False

    def __init__(self) -> None:
        self.capacities = 0
        """How often there may have been more room."""
        self.ready: list[tuple[str, str, frozenset[str]]] = []
        """Each worker that has listed what it holds: its id, its process, its runs."""
        self.workers: list[tuple[WorkerEvent, str]] = []
        """What became of workers, and the state of each after it."""
        self.stale = 0
        self.protocol_errors = 0
        self._changed = trio.Event()

    def on_capacity(self) -> None:
        self.capacities += 1
        self._changed.set()
        self._changed = trio.Event()

    async def prepare(self, worker: WorkerInfo, boot: str, connection: int) -> Waiting:
        return trio.lowlevel.checkpoint

    def adopt(self, run: Run, size: int) -> Adoption | None:
        return None

    def on_worker_ready(self, worker_id: str, boot: str, held: frozenset[str]) -> None:
        self.ready.append((worker_id, boot, held))

    def on_worker(self, event: WorkerEvent, worker: WorkerInfo) -> None:
        self.workers.append((event, worker.state))

    def on_stale(self) -> None:
        self.stale += 1

    def on_protocol_error(self) -> None:
        self.protocol_errors += 1

    async def next_capacity(self, seen: int) -> None:
        """Wait until there may be more room than when `capacities` was `seen`."""
        while self.capacities == seen:
            await self._changed.wait()


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)
