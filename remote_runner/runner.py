"""`RemoteRunner`: runs commands on connected workers. The default plug of the queue, usable alone.

Owns the runs (`run.py`): which worker has which, and what happens to it when its connection ends.
`server.py` owns the connections, `pool.py` the choice of a worker, `translation.py` what a command
and its end are on the wire.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
import trio

from remote_runner.ahead import RunsAhead, see_begin
from remote_runner.direct import DirectRuns
from remote_runner.errors import (
    ConnectionLost,
    DuplicateRun,
    NoWorkerAvailable,
    RemoteProtocolError,
)
from remote_runner.listening import open_listeners
from remote_runner.lone_error import lone_error
from remote_runner.overdue import Overdue
from remote_runner.pool import Pool, PooledWorker
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
    ResultChunk,
    Resume,
    Stale,
    Started,
    Stdin,
    StdinEnd,
)
from remote_runner.run import Nobody, NoHost, RemoteRun
from remote_runner.server import RETRY_AFTER_MS, SILENT_BEATS, Server, ServerSettings
from remote_runner.session import Session
from remote_runner.sparing_log import SparingLog
from remote_runner.translation import baseline_spawn, milliseconds, outcome_of, spawn
from remote_runner.types import (
    CAN_MASK,
    Command,
    Host,
    Observer,
    Offer,
    Outcome,
    Output,
    Reason,
    Waiting,
    WorkerEvent,
    WorkerInfo,
    all_needs,
)

log = structlog.get_logger("remote_runner")

DEFAULT_PORT: Final = 8632
STDIN_CHUNK: Final = 64 * 1024
MAX_GAPS: Final = 100
"""How often a worker may be asked for output that it has passed over. Honest ones never are."""
BASELINE_SETTLE: Final = 1.0
"""Seconds beyond the kill grace that a baseline worker has to report the end."""


class RemoteRunner(DirectRuns):
    """Listens for workers and runs commands on them.

    Args:
        host: address to listen on; loopback unless credentials are configured.
        port: for workers; 0 picks a free one, None opens no listener (see `handle_stream`).
        json_port: a second port whose silent peers are spoken to in JSON lines; None for none.
        reuse_port: other processes listen on these ports too; see `open_listeners`.
        settings: timers, credentials, limits.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = DEFAULT_PORT,
        *,
        json_port: int | None = None,
        reuse_port: bool = False,
        settings: ServerSettings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or ServerSettings()
        self._address = host
        self._reuse_port = reuse_port
        self._wanted = {Codec.MSGPACK: port, Codec.JSON_LINES: json_port}
        self.ports: dict[Codec, int] = {}
        self._pool = Pool()
        self._sessions: dict[int, Session] = {}
        self._runs: dict[str, RemoteRun] = {}
        self._server = Server(self.settings, self, self._find_session)
        self._host: Host = NoHost()
        self._nursery: trio.Nursery | None = None
        # The silence of a connection is looked at now and then: one heartbeat more is enough.
        unnoticed = (SILENT_BEATS + 1) * self.settings.heartbeat
        self._overdue = Overdue(self.settings.detach, unnoticed, self._lose)
        self._detached = trio.Event()
        self._drained: set[str] = set()
        self._on_refusal = SparingLog("remote_runner", "run refused")
        self._ahead = RunsAhead(self._pool, self._runs, self._overdue)

    @asynccontextmanager
    async def open(self, host: Host | None = None) -> AsyncIterator[None]:
        """Listen while entered. Leaving says goodbye to every worker; what runs there runs on.

        Raises:
            CannotListen: a port is in use, or may not be opened.
        """
        if host is not None:
            self._host = host
            self._server.server_id, self._server.is_shared = host.id, host.is_shared
        with lone_error():
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._overdue.open(nursery)
                for codec, port in self._wanted.items():
                    if port is not None:
                        listeners = await open_listeners(
                            self._address, port, reuse_port=self._reuse_port
                        )
                        self.ports[codec] = listeners[0].socket.getsockname()[1]
                        nursery.start_soon(self._server.serve, listeners, codec)
                nursery.start_soon(self._server.keep_alive)
                nursery.start_soon(self._expire_detached)
                nursery.start_soon(self._ahead.run)
                try:
                    yield
                finally:
                    self._host = NoHost()
                    goodbye = Goodbye(
                        "shutdown", "the server is stopping; what runs here may go on"
                    )
                    await self._server.see_off(self._server.part(goodbye), goodbye.message)
                    nursery.cancel_scope.cancel()

    @property
    def port(self) -> int:
        """The port that workers dial."""
        return self.ports[Codec.MSGPACK]

    async def handle_stream(self, stream: trio.abc.Stream, name: str = "in-process") -> None:
        """Serve one worker over any stream, until it ends."""
        await self._server.handle(stream, Codec.MSGPACK, name)

    # --- the plug ---

    def offers(self, limit: int) -> Sequence[Offer]:
        return self._pool.offers(limit)

    def workers(self) -> Sequence[WorkerInfo]:
        return [worker.info for worker in self._pool]

    def drain(self, worker_id: str) -> None:
        self._drained.add(worker_id)
        session = self._find_session(worker_id)
        if session is None or session.worker.is_drained:
            return
        worker = session.worker
        worker.is_drained = True
        self._ahead.withdraw(session)
        self._tell_drain(worker)

    def _tell_drain(self, worker: PooledWorker) -> None:
        """How far a worker has come that was told to drain."""
        if worker.is_drained and worker.is_ready:
            event = WorkerEvent.DRAINING if worker.runs else WorkerEvent.DRAINED
            self._host.on_worker(event, worker.info)

    def resume(self, worker_id: str) -> None:
        self._drained.discard(worker_id)
        session = self._find_session(worker_id)
        if session is None or not session.worker.is_drained:
            return
        session.worker.is_drained = False
        self._pool.update(session.worker)
        self._host.on_worker(WorkerEvent.RESUMED, session.worker.info)
        self._on_capacity()

    def start(
        self,
        run_id: str,
        command: Command,
        needs: Mapping[str, str],
        observer: Observer,
        worker_id: str | None = None,
    ) -> RemoteRun:
        if run_id in self._runs:
            raise DuplicateRun(f"the run {run_id} is already known here")
        needs = all_needs(needs, command.mask)
        if worker_id is None:
            worker = self._pool.choose(needs, command.slots)
        else:
            worker = self._pool.find(worker_id)
        if worker is not None and command.mask and CAN_MASK not in worker.labels:
            worker = None  # it was restarted, as an older release, since its slot was taken
        has_room = worker is not None and (
            worker.free >= command.slots or (command.slots == 1 and worker.spare > 0)
        )
        if worker is None or not has_room:
            raise NoWorkerAvailable("no connected worker has room for it and the labels needed")
        session = self._sessions[worker.session]
        run = RemoteRun(self, run_id, command, observer, session)
        self._runs[run_id] = run
        if not worker.free:
            self._ahead.add(session, run)
        worker.add(run_id, run.slots)
        self._spawn(session, run)
        self._pool.update(worker)
        return run

    def _spawn(self, session: Session, run: RemoteRun) -> None:
        command = run.command
        assert command is not None
        if session.worker.is_baseline:
            session.send(baseline_spawn(command))
            run.observer.on_started(run, None)  # it does not say so itself
            if command.timeout is not None:
                time_out = partial(self.kill, run, Reason.TIMEOUT, None, None)
                self._overdue.later(run, command.timeout, time_out)
            return
        session.send(spawn(run.id, command))
        if command.timeout is not None:
            self._overdue.watch_timeout(run, command.timeout)
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
        run.kill_order = Kill(run.id, signal, milliseconds(grace))
        if run.session is None:
            return
        if not run.session.worker.is_baseline:
            self._overdue.order_kill(run, run.session)
            return
        run.session.send(Kill(None, signal, milliseconds(grace)))
        patience = self._overdue.grace_of(run) + BASELINE_SETTLE
        self._overdue.later(run, patience, partial(self._cut_off, run))

    def forget(self, run: RemoteRun) -> None:
        """The run's outcome is durable. Late words about it are answered with `stale`."""
        self._runs.pop(run.id, None)
        if run.session is not None and not run.session.worker.is_baseline:
            # A run that was given up may still be alive there.
            run.session.send(Stale(run.id) if run.is_lost else Closed(run.id))

    def abandon(self, run: RemoteRun) -> None:
        """The run is another's by now."""
        self._runs.pop(run.id, None)
        self._stop_timers(run)
        if run.session is not None:
            self._take_out(run.session.worker, run)
            run.session = None

    def speak_until(self, deadline: float) -> None:
        """Be silent from then on: each connection on which something would be said ends instead."""
        self._server.silent_from = deadline

    def hang_up(self) -> None:
        """End every connection, at once: nothing that is said there counts any more."""
        if self._nursery is not None:
            words = "this server cannot reach its queue now; it tries again"
            goodbye = Goodbye("away", words, retry_after_ms=RETRY_AFTER_MS)
            self._nursery.start_soon(self._server.see_off, self._server.part(goodbye), words)

    # --- what sessions tell ---

    def _find_session(self, worker_id: str) -> Session | None:
        worker = self._pool.find(worker_id)
        return None if worker is None else self._sessions[worker.session]

    def on_joined(self, session: Session) -> None:
        worker = session.worker
        worker.is_drained = worker.id in self._drained
        self._sessions[worker.session] = session
        self._pool.add(worker)
        if worker.is_ready:
            self._host.on_worker(WorkerEvent.JOINED, worker.info)
            self._tell_drain(worker)
            self._on_capacity()

    async def prepare(self, session: Session) -> Waiting:
        worker = session.worker
        return await self._host.prepare(worker.info, worker.boot, worker.connection)

    def on_ready(self, session: Session, listed: dict[str, tuple[AttemptState, int]]) -> None:
        worker = session.worker
        for run in [r for r in self._runs.values() if r.worker_id == worker.id]:
            if run.id not in listed and not run.is_ended:
                if run.boot == worker.boot and not run.has_begun:
                    self._end(run, Outcome(Reason.REFUSED))  # the spawn did not arrive
                else:
                    self._lose(run)
        held = set()
        for run_id, (_, size) in listed.items():
            known = self._runs.get(run_id)
            if known is not None and known.worker_id != worker.id:
                self._say_stale(session, run_id)
                continue
            if known is not None and known.is_ended:
                known.session = session  # it hears `closed` once that is true
                continue
            if known is None:
                known = RemoteRun(self, run_id, None, Nobody(), session)
                known.session = None  # until it is attached: what the host orders is said then
                adoption = self._host.adopt(known, size)
                if adoption is None:
                    self._say_stale(session, run_id)
                    continue
                known.observer = adoption.observer
                known.received = known.acked = adoption.offset
                known.results_received = known.results_acked = adoption.results
                known.max_output, known.detach = adoption.max_output, adoption.detach
                known.slots = adoption.slots
                self._runs[run_id] = known
            held.add(run_id)
            self._attach(known, session)
        self._host.on_worker(WorkerEvent.JOINED, worker.info)
        self._tell_drain(worker)
        self._host.on_worker_ready(worker.id, worker.boot, frozenset(held))
        self._pool.update(worker)
        self._on_capacity()

    def _attach(self, run: RemoteRun, session: Session) -> None:
        run.session = session
        run.has_begun = True  # its worker has listed it
        run.detached_until = None
        session.worker.add(run.id, run.slots)
        session.unacked += run.unacked
        session.send(Resume(run.id, run.received, run.results_received))
        if run.acked:
            session.send(Ack(run.id, run.acked))  # the last one may have been lost in the cut
        if run.kill_order is not None:
            self._overdue.order_kill(run, session)

    def on_slots(self, session: Session) -> None:
        session.worker.ends.clear()
        self._pool.update(session.worker)
        if session.worker.free:
            self._on_capacity()

    def on_leaving(self, session: Session) -> None:
        self._ahead.withdraw(session)
        self._host.on_worker(WorkerEvent.LEAVING, session.worker.info)

    def on_started(self, session: Session, message: Started) -> None:
        run = self._run_of(session, message.id)
        if run is None:
            return
        see_begin(run, session.worker)
        if not (run.has_started or run.received):
            run.has_started = True
            run.observer.on_started(run, message.pid)

    def on_refused(self, session: Session, message: Refused) -> None:
        run = self._run_of(session, message.id)
        if run is None:
            return
        if run.has_begun:
            raise RemoteProtocolError(f"{run.id} was refused after it had begun")
        is_ahead = run.id in session.worker.ahead
        if not is_ahead:
            self._on_refusal.warning(run=run.id, worker=session.worker.name, why=message.reason)
        self._end(run, Outcome(Reason.GIVEN_BACK if is_ahead else Reason.REFUSED))

    def on_output(self, session: Session, message: OutputChunk) -> None:
        run = self._run_of(session, message.id)
        if run is None:
            return
        data = message.data
        if message.offset is not None:
            known = run.received - message.offset
            if known < 0:
                self._ask_again(run, session)
                return
            if known:
                repeated = Output(message.stream, data[:known], message.offset)
                if not run.observer.is_repeat(run, repeated):
                    raise RemoteProtocolError(
                        f"output of {run.id} at offset {message.offset} is not what it sent before"
                    )
                data = data[known:]
        if not data:
            return
        output = Output(message.stream, data, run.received)
        see_begin(run, session.worker)
        run.received += len(data)
        session.unacked += len(data)
        run.observer.on_output(run, output)

    def on_result(self, session: Session, message: ResultChunk) -> None:
        run = self._run_of(session, message.id)
        if run is None:
            return
        known = run.results_received - message.offset
        if known < 0:
            self._ask_again(run, session)
            return
        data = message.data[known:]
        if data:
            offset = run.results_received
            run.results_received += len(data)
            session.unacked += len(data)
            run.observer.on_result(run, data, offset)

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
                self._ask_again(run, session)
                return
        if message.results is not None and message.results > run.results_received:
            self._ask_again(run, session)
            return
        self._end(run, outcome_of(message, run.received, run.kill_reason))

    def _ask_again(self, run: RemoteRun, session: Session) -> None:
        """Something is missing before what came. A worker that does not have it has nothing more
        to say of this run that could be believed."""
        run.gaps += 1
        if run.gaps == 1:
            self._overdue.watch_gap(run)
        if run.gaps <= MAX_GAPS:
            session.send(Resume(run.id, run.received, run.results_received))
            return
        log.warning(
            "attempt given up: its worker does not have its output from this offset on",
            attempt=run.id, worker=run.worker, offset=run.received,
        )  # fmt: skip
        self._lose(run)

    def on_left(self, session: Session) -> None:
        worker = session.worker
        if worker.is_ready:
            self._host.on_worker(WorkerEvent.LEFT, worker.info)
        if worker.is_baseline:
            self._drained.discard(worker.id)  # nobody ever has this id again
        self._pool.remove(worker)
        self._sessions.pop(worker.session, None)
        now = trio.current_time()
        for run_id in list(worker.runs):
            run = self._runs[run_id]
            run.session = None
            run.detached_until = now + self._overdue.detach_of(run)
            if session.was_mistaken and not run.has_begun:
                self._end(run, Outcome(Reason.REFUSED))
            elif worker.is_baseline:
                self._lose(run)
        worker.clear()
        self._detached.set()

    def on_protocol_error(self) -> None:
        self._host.on_protocol_error()

    def _run_of(self, session: Session, run_id: str | None) -> RemoteRun | None:
        """The run that a worker speaks of, if it is this worker's; else it is told `stale`."""
        if run_id is None:
            if not session.worker.is_baseline:
                raise RemoteProtocolError("an event of a full worker names its attempt")
            run_id = next(iter(session.worker.runs), None)
            if run_id is None:
                raise RemoteProtocolError("this worker has no job now, so it has no output or end")
        elif session.worker.is_baseline:
            raise RemoteProtocolError("a worker that names its attempts says hello first")
        run = self._runs.get(run_id)
        if run is None or run.session is not session:
            self._say_stale(session, run_id)
            return None
        return None if run.is_ended else run

    def _say_stale(self, session: Session, run_id: str) -> None:
        session.send(Stale(run_id))
        self._host.on_stale()

    # --- ends ---

    def _take_out(self, worker: PooledWorker, run: RemoteRun) -> None:
        worker.remove(run.id)
        self._pool.update(worker)

    def _stop_timers(self, run: RemoteRun) -> None:
        run.is_ended = True
        for timer in run.timers:
            timer.cancel()
        run.detached_until = None

    def _end(self, run: RemoteRun, outcome: Outcome) -> None:
        self._stop_timers(run)
        session = run.session
        if session is not None:
            worker = session.worker
            worker.see_end(outcome.duration, trio.current_time())
            self._take_out(worker, run)
            if worker.is_drained and not worker.runs:
                self._tell_drain(worker)
            session.on_acked(run.unacked)
            run.acked, run.results_acked = run.received, run.results_received
        run.observer.on_closed(run, outcome)
        if session is not None:
            self._on_capacity()

    def _lose(self, run: RemoteRun) -> None:
        may_have_begun = run.has_begun or not run.was_ahead
        reason = run.kill_reason or (Reason.WORKER_LOST if may_have_begun else Reason.UNHEARD)
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

    def _cut_off(self, run: RemoteRun) -> None:
        """A baseline worker that does not end its job loses its connection, and the job with it."""
        if run.session is not None:
            run.session.emitter.close_nowait("the worker did not end its job")
