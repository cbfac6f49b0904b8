"""`RemoteRunner`: runs commands on connected workers. The default plug of the queue, usable alone.

Owns the runs: which worker has which, how much of its output is known, what happens to it when
its connection ends. `server.py` owns the connections, `pool.py` the choice of a worker.
"""

import math
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from remote_runner.direct import DirectRuns
from remote_runner.errors import (
    CannotListen,
    ConnectionLost,
    DuplicateRun,
    NoWorkerAvailable,
    RemoteProtocolError,
)
from remote_runner.pool import Pool
from remote_runner.protocol.framing import Codec
from remote_runner.protocol.messages import (
    Ack,
    AttemptState,
    Close,
    Closed,
    Goodbye,
    Kill,
    OutputChunk,
    Refused,
    Resume,
    Spawn,
    SpawnOptions,
    Stale,
    Started,
    Stdin,
    StdinEnd,
)
from remote_runner.server import Server, ServerSettings, Session
from remote_runner.types import (
    Adoption,
    Command,
    Host,
    Observer,
    Offer,
    Outcome,
    Output,
    Reason,
    Run,
    WorkerInfo,
)

DEFAULT_PORT: Final = 8632
DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
STDIN_CHUNK: Final = 64 * 1024
BASELINE_SETTLE: Final = 1.0
"""Seconds beyond the kill grace that a baseline worker has to report the end."""

_REASONS: Final = {
    reason.value: reason
    for reason in (
        Reason.EXIT, Reason.SIGNAL, Reason.TIMEOUT, Reason.KILLED, Reason.SPAWN_ERROR,
        Reason.ABANDONED,
    )
}  # fmt: skip
"""What a worker may give as the reason of a `close`."""


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds * 1000)


class RemoteRun:
    """One run on a worker; see `types.Run`. `session` is None while its worker is away."""

    __slots__ = (
        "_runner", "acked", "command", "detach", "detached_until", "id", "is_ended", "is_lost",
        "kill_order", "kill_reason", "max_output", "observer", "received", "session",
        "worker", "worker_id",
    )  # fmt: skip

    def __init__(
        self,
        runner: "RemoteRunner",
        run_id: str,
        command: Command | None,
        observer: Observer,
        session: Session,
    ) -> None:
        self._runner = runner
        self.id = run_id
        self.command = command
        self.observer = observer
        self.session: Session | None = session
        self.worker = session.worker.name
        self.worker_id = session.worker.id
        self.max_output = None if command is None else command.max_output
        self.detach = None if command is None else command.detach
        self.received = 0
        self.acked = 0
        self.kill_reason: Reason | None = None
        self.kill_order: Kill | None = None
        """What its worker is told, again after every reconnection: it may have been missed."""
        self.detached_until: float | None = None
        self.is_ended = False
        """Its outcome was told to the observer, who has not called `forget` yet."""
        self.is_lost = False

    @property
    def is_full(self) -> bool:
        """Whether all that may come of its output has come: its worker drops what is above."""
        return self.max_output is not None and self.received >= self.max_output

    def ack(self, offset: int) -> None:
        grown = offset - self.acked
        if grown <= 0:
            return
        self.acked = offset
        if self.session is not None:
            self.session.on_acked(grown)
            if not self.session.worker.is_baseline:
                self.session.send(Ack(self.id, offset))

    def forget(self) -> None:
        self._runner.forget(self)

    def kill(self, signal: str | None = None, grace: float | None = None) -> None:
        self._runner.kill(self, Reason.KILLED, signal, grace)


class _NoHost:
    """The host of a runner that is used alone: it knows no earlier runs."""

    def on_capacity(self) -> None:
        pass

    def adopt(self, run: Run, size: int) -> Adoption | None:
        return None

    def on_worker_ready(self, worker_id: str, held: frozenset[str]) -> None:
        pass


class RemoteRunner(DirectRuns):
    """Listens for workers and runs commands on them.

    Args:
        host: address to listen on; loopback unless credentials are configured.
        port: for workers; 0 picks a free one, None opens no listener (see `handle_stream`).
        json_port: a second port whose silent peers are spoken to in JSON lines; None for none.
        settings: timers, credentials, limits.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = DEFAULT_PORT,
        *,
        json_port: int | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or ServerSettings(server_id=secrets.token_hex(8))
        self._address = host
        self._wanted = {Codec.MSGPACK: port, Codec.JSON_LINES: json_port}
        self.ports: dict[Codec, int] = {}
        self._pool = Pool()
        self._sessions: dict[int, Session] = {}
        self._runs: dict[str, RemoteRun] = {}
        self._server = Server(self.settings, self, self._find_session)
        self._host: Host = _NoHost()
        self._nursery: trio.Nursery | None = None
        self._detached = trio.Event()

    @asynccontextmanager
    async def open(self, host: Host | None = None) -> AsyncIterator[None]:
        """Listen while entered. Leaving says goodbye to every worker; what runs there runs on.

        Raises:
            CannotListen: a port is in use, or may not be opened.
        """
        if host is not None:
            self._host = host
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for codec, port in self._wanted.items():
                if port is not None:
                    listeners = await self._listen(port)
                    self.ports[codec] = listeners[0].socket.getsockname()[1]
                    nursery.start_soon(self._server.serve, listeners, codec)
            nursery.start_soon(self._server.keep_alive)
            nursery.start_soon(self._expire_detached)
            try:
                yield
            finally:
                self._host = _NoHost()
                self._server.say_goodbye(
                    Goodbye("shutdown", "the server is stopping; what runs here may go on")
                )
                with trio.move_on_after(1, shield=True):
                    for session in list(self._sessions.values()):
                        await session.emitter.flush()
                nursery.cancel_scope.cancel()

    async def _listen(self, port: int) -> Sequence[trio.SocketListener]:
        try:
            return await trio.open_tcp_listeners(port, host=self._address)
        except OSError as error:
            raise CannotListen(self._address, port, error.strerror or str(error)) from error

    @property
    def port(self) -> int:
        """The port that workers dial."""
        return self.ports[Codec.MSGPACK]

    async def handle_stream(self, stream: trio.abc.Stream, name: str = "in-process") -> None:
        """Serve one worker over any stream, until it ends."""
        await self._server.handle(stream, Codec.MSGPACK, name)

    # --- the plug ---

    def offers(self) -> Sequence[Offer]:
        return self._pool.offers()

    def workers(self) -> Sequence[WorkerInfo]:
        return [
            WorkerInfo(
                id=worker.id,
                name=worker.name,
                state=worker.state,
                slots=worker.slots,
                free=worker.free,
                labels=worker.labels,
                version=worker.version,
                address=worker.address,
                running=tuple(sorted(worker.runs)),
                is_baseline=worker.is_baseline,
            )
            for worker in self._pool
        ]

    def start(
        self, run_id: str, command: Command, needs: Mapping[str, str], observer: Observer
    ) -> RemoteRun:
        if run_id in self._runs:
            raise DuplicateRun(f"the run {run_id} is already known here")
        worker = self._pool.choose(needs)
        if worker is None:
            raise NoWorkerAvailable("no connected worker has a free slot and the labels needed")
        session = self._sessions[worker.session]
        run = RemoteRun(self, run_id, command, observer, session)
        self._runs[run_id] = run
        worker.runs.add(run_id)
        self._pool.update(worker)
        self._spawn(session, run, command)
        return run

    def _spawn(self, session: Session, run: RemoteRun, command: Command) -> None:
        if session.worker.is_baseline:
            session.send(Spawn(command.command, command.args, _baseline_options(command)))
            if command.timeout is not None and self._nursery is not None:
                self._nursery.start_soon(self._time_out_baseline, run, command.timeout)
            return
        options = SpawnOptions(
            id=run.id,
            cwd=command.cwd,
            set_env=dict(command.env),
            shell=command.shell,
            argv0=command.argv0,
            timeout_ms=_ms(command.timeout),
            kill_signal=command.kill_signal,
            kill_grace_ms=_ms(command.kill_grace),
            stdin="ignore" if command.stdin is None else "pipe",
            max_output=command.max_output,
            detach_ms=_ms(command.detach),
        )
        session.send(Spawn(command.command, command.args, options))
        if command.stdin is not None and self._nursery is not None:
            self._nursery.start_soon(self._send_stdin, session, run.id, command.stdin)

    async def _send_stdin(self, session: Session, run_id: str, data: bytes) -> None:
        """In the output lane: input waits for room there, and never delays a heartbeat."""
        try:
            for start in range(0, len(data), STDIN_CHUNK):
                await session.emitter.send(Stdin(run_id, data[start : start + STDIN_CHUNK]))
            await session.emitter.send(StdinEnd(run_id))
        except ConnectionLost:
            pass  # the worker comes back without this attempt, which is then known to be dead

    def kill(self, run: RemoteRun, reason: Reason, signal: str | None, grace: float | None) -> None:
        """End a run's process tree. A run whose worker is away is killed when it comes back."""
        if run.is_ended:
            return
        run.kill_reason = reason
        run.kill_order = Kill(run.id, signal, _ms(grace))
        if run.session is None:
            return
        if not run.session.worker.is_baseline:
            run.session.send(run.kill_order)
            return
        run.session.send(Kill(None, signal, _ms(grace)))
        if self._nursery is not None:
            if grace is None:
                grace = run.command.kill_grace if run.command is not None else 0.0
            self._nursery.start_soon(self._cut_off_baseline, run, grace + BASELINE_SETTLE)

    def forget(self, run: RemoteRun) -> None:
        """The run's outcome is durable. Late words about it are answered with `stale`."""
        self._runs.pop(run.id, None)
        if run.session is not None and not run.session.worker.is_baseline:
            # A run that was given up may still be alive there.
            run.session.send(Stale(run.id) if run.is_lost else Closed(run.id))

    # --- what sessions tell ---

    def _find_session(self, worker_id: str) -> Session | None:
        worker = self._pool.find(worker_id)
        return None if worker is None else self._sessions[worker.session]

    def on_joined(self, session: Session) -> None:
        self._sessions[session.worker.session] = session
        self._pool.add(session.worker)
        if session.worker.is_ready:
            self._on_capacity()

    def on_ready(self, session: Session, listed: dict[str, tuple[AttemptState, int]]) -> None:
        worker = session.worker
        for run in [r for r in self._runs.values() if r.worker_id == worker.id]:
            if run.id not in listed and not run.is_ended:
                self._lose(run)
        held = set()
        for run_id, (_, size) in listed.items():
            known = self._runs.get(run_id)
            if known is not None and known.is_ended:
                known.session = session  # it hears `closed` once that is true
                continue
            if known is None:
                known = RemoteRun(self, run_id, None, _Nobody(), session)
                known.session = None  # until it is attached: what the host orders is said then
                adoption = self._host.adopt(known, size)
                if adoption is None:
                    session.send(Stale(run_id))
                    continue
                known.observer = adoption.observer
                known.received = known.acked = adoption.offset
                known.max_output, known.detach = adoption.max_output, adoption.detach
                self._runs[run_id] = known
            held.add(run_id)
            self._attach(known, session)
        self._host.on_worker_ready(worker.id, frozenset(held))
        self._pool.update(worker)
        self._on_capacity()

    def _attach(self, run: RemoteRun, session: Session) -> None:
        run.session = session
        run.detached_until = None
        session.worker.runs.add(run.id)
        session.unacked += run.received - run.acked
        session.send(Resume(run.id, run.received))
        if run.kill_order is not None:
            session.send(run.kill_order)

    def on_slots(self, session: Session) -> None:
        self._pool.update(session.worker)
        if session.worker.free:
            self._on_capacity()

    def on_started(self, session: Session, message: Started) -> None:
        run = self._run_of(session, message.id)
        if run is not None:
            run.observer.on_started(run, message.pid)

    def on_refused(self, session: Session, message: Refused) -> None:
        run = self._run_of(session, message.id)
        if run is not None:
            self._end(run, Outcome(Reason.REFUSED))

    def on_output(self, session: Session, message: OutputChunk) -> None:
        run = self._run_of(session, message.id)
        if run is None:
            return
        data = message.data
        if message.offset is not None:
            known = run.received - message.offset
            if known < 0:
                session.send(Resume(run.id, run.received))
                return
            if known:
                data = data[known:]
        if not data:
            return
        output = Output(message.stream, data, run.received)
        run.received += len(data)
        session.unacked += len(data)
        run.observer.on_output(run, output)

    def on_close(self, session: Session, message: Close) -> None:
        run = self._run_of(session, message.id)
        if run is None:
            return
        if message.offset is not None and message.offset != run.received:
            if message.offset < run.received:
                raise RemoteProtocolError(
                    f"close of {run.id} at offset {message.offset}, below the"
                    f" {run.received} bytes it sent"
                )
            if not run.is_full:
                session.send(Resume(run.id, run.received))
                return
        self._end(run, self._outcome(run, message))

    def _outcome(self, run: RemoteRun, message: Close) -> Outcome:
        reason = _REASONS.get(message.reason or "")
        if reason is None:
            reason = Reason.EXIT if message.code is not None else Reason.SIGNAL
            reason = run.kill_reason or reason
        return Outcome(
            reason=reason,
            exit_code=message.code,
            signal=message.signal,
            output_bytes=run.received if message.offset is None else message.offset,
            duration=None if message.duration_ms is None else message.duration_ms / 1000,
            max_rss=None if message.max_rss_kb is None else message.max_rss_kb * 1024,
            cpu_time=None if message.cpu_ms is None else message.cpu_ms / 1000,
        )

    def on_left(self, session: Session) -> None:
        worker = session.worker
        self._pool.remove(worker)
        self._sessions.pop(worker.session, None)
        now = trio.current_time()
        for run_id in list(worker.runs):
            run = self._runs[run_id]
            run.session = None
            detach = self.settings.detach if run.detach is None else run.detach
            run.detached_until = now + detach
            if worker.is_baseline:
                self._lose(run)
        worker.runs.clear()
        self._detached.set()

    def _run_of(self, session: Session, run_id: str | None) -> RemoteRun | None:
        """The run that a worker speaks of, if it is this worker's; else it is told `stale`."""
        if run_id is None:
            if not session.worker.is_baseline:
                raise RemoteProtocolError("an event of a full worker names its attempt")
            run_id = next(iter(session.worker.runs), None)
            if run_id is None:
                raise RemoteProtocolError("this worker has no job now, so it has no output or end")
        run = self._runs.get(run_id)
        if run is None or run.session is not session:
            session.send(Stale(run_id))
            return None
        return None if run.is_ended else run

    # --- ends ---

    def _end(self, run: RemoteRun, outcome: Outcome) -> None:
        run.is_ended = True
        run.detached_until = None
        session = run.session
        if session is not None:
            session.worker.runs.discard(run.id)
            session.on_acked(run.received - run.acked)
            run.acked = run.received
            self._pool.update(session.worker)
        run.observer.on_closed(run, outcome)
        if session is not None:
            self._on_capacity()

    def _lose(self, run: RemoteRun) -> None:
        reason = Reason.WORKER_LOST if run.kill_reason is None else run.kill_reason
        run.is_lost = True
        self._end(run, Outcome(reason, output_bytes=run.received))

    def _on_capacity(self) -> None:
        self._may_have_room()
        self._host.on_capacity()

    async def _expire_detached(self) -> None:
        """Give up runs whose worker stayed away for their `detach`."""
        while True:
            self._detached = trio.Event()
            now, due = trio.current_time(), math.inf
            for run in list(self._runs.values()):
                if run.detached_until is None:
                    continue
                if run.detached_until <= now:
                    self._lose(run)
                else:
                    due = min(due, run.detached_until)
            with trio.move_on_at(due):
                await self._detached.wait()

    async def _time_out_baseline(self, run: RemoteRun, after: float) -> None:
        await trio.sleep(after)
        self.kill(run, Reason.TIMEOUT, None, None)

    async def _cut_off_baseline(self, run: RemoteRun, after: float) -> None:
        """A baseline worker that does not end its job loses its connection, and the job with it."""
        await trio.sleep(after)
        if not run.is_ended and run.session is not None:
            run.session.emitter.close_nowait("the worker did not end its job")


def _baseline_options(command: Command) -> SpawnOptions:
    own = {key: value for key, value in command.env.items() if not key.startswith("JOB_")}
    return SpawnOptions(
        cwd=command.cwd,
        env={"PATH": DEFAULT_PATH, **command.env} if own else None,
        shell=command.shell,
        argv0=command.argv0,
        timeout_ms=_ms(command.timeout),
        kill_signal=None if command.kill_signal == "SIGTERM" else command.kill_signal,
    )


class _Nobody:
    """The observer of a run between its presentation and its adoption."""

    def on_started(self, run: Run, pid: int | None) -> None:
        pass

    def on_output(self, run: Run, output: Output) -> None:
        pass

    def on_closed(self, run: Run, outcome: Outcome) -> None:
        pass
