"""One task that was pulled: its process, its output on the way to the server, its end.

Owns what is said of it and how often, until it is answered or the task is another's. Whether there
are more tasks is `pull.py`'s; what a process is, `process.py`'s.
"""

import base64
from collections.abc import Callable
from typing import Any, Final

import trio

from remote_runner.types import Outcome, Reason, StreamName
from simple_worker.backoff import reconnect_delay
from simple_worker.http_client import Answer, HttpClient, NoAnswer
from simple_worker.launch import SpawnFailure
from simple_worker.processes import Child
from simple_worker.slots import READ

FLUSH: Final = 512 * 1024
"""Bytes of a stream that go in one chunk, as those of the ancestor's agents do."""
FLUSH_SECONDS: Final = 5.0
"""Seconds after which a smaller one goes too."""
WAIT: Final = 5.0
"""Seconds that a heartbeat waits for the news that the task is to end."""
LEASE: Final = 30.0
"""Seconds without a sign of life after which the server gives the task to another."""
FENCE: Final = 0.9
"""Share of it after which the task is stopped here."""
PAUSE: Final = 1.0
"""Seconds between two heartbeats at least."""
MAX_GRACE: Final = 86_400.0
"""Seconds that a server may give a task which it ends."""
RETRY_CEILING: Final = 2.0
"""Seconds between two tries at most: there are not many before the lease is over."""


class Lane:
    """The output of one stream that waits to be sent, in chunks, bounded."""

    def __init__(self, stream: StreamName) -> None:
        self.stream = stream
        self.index = 0
        self._buffer = bytearray()
        self._since = 0.0
        self._is_over = False
        self._changed = trio.Event()
        self._room = trio.lowlevel.ParkingLot()

    async def add(self, data: bytes) -> None:
        """Take output; waits while too much of it is not sent."""
        if not self._buffer:
            self._since = trio.current_time()
        self._buffer += data
        self._changed.set()
        while len(self._buffer) >= 2 * FLUSH:
            await self._room.park()

    def finish(self) -> None:
        """No more comes."""
        self._is_over = True
        self._changed.set()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._buffer.clear()
        self._room.unpark_all()
        self.finish()

    async def next(self) -> bytes | None:
        """The next chunk, when it is time; None at the end."""
        while len(self._buffer) < FLUSH and not self._is_over:
            due = self._since + FLUSH_SECONDS if self._buffer else float("inf")
            if trio.current_time() >= due:
                break
            self._changed = trio.Event()
            with trio.move_on_at(due):
                await self._changed.wait()
        if not self._buffer:
            return None
        size = len(self._buffer)
        if size > FLUSH:
            size = self._buffer.rfind(b"\n", 0, FLUSH) + 1 or FLUSH  # whole lines, if there are
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._since = trio.current_time()
        self._room.unpark_all()
        return data


def chunk_body(stream: StreamName, index: int, data: bytes) -> dict[str, Any]:
    """Whole lines as the ancestor's contract has them, everything else as bytes."""
    body = {"kind": stream, "index": index}
    if data.endswith(b"\n"):
        try:
            return {**body, "content": data[:-1].decode()}
        except UnicodeDecodeError:
            pass
    return {**body, "base64": base64.b64encode(data).decode()}


class PulledTask:
    """A task, from its start until the server knows its end.

    Args:
        client: of the server that it is of. number: by which the server knows it.
        child: its process, which runs already, or why there is none.
        rng: 0 to 1, the jitter of new tries. say: takes a line for a person.
    """

    def __init__(
        self,
        client: HttpClient,
        number: int,
        child: Child | SpawnFailure,
        rng: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._client = client
        self.number = number
        self._child = child
        self._rng = rng
        self._say = say
        self._lanes: dict[StreamName, Lane] = {"stdout": Lane("stdout"), "stderr": Lane("stderr")}
        self._last_contact = trio.current_time()
        self._is_gone = False

    def abandon(self, grace: float = 0.0, signal: str | None = "SIGKILL") -> None:
        """End its tree, because the server is about to give it up, or the worker to leave."""
        self._kill(Reason.ABANDONED, signal, grace)

    def _kill(self, reason: Reason, signal: str | None, grace: float | None) -> None:
        if not isinstance(self._child, SpawnFailure):
            self._child.kill(reason, signal, grace)

    async def run(self) -> None:
        """From start to end. Cancelled: the tree is gone, and nothing more is said."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            nursery.start_soon(self._fence)
            outcome = await self._run_child()
            if not self._is_gone:
                await self._ask("PATCH", "status", _status(outcome))
            nursery.cancel_scope.cancel()

    async def _run_child(self) -> Outcome:
        """Its outcome, once all its output is at the server."""
        async with trio.open_nursery() as senders:
            for lane in self._lanes.values():
                senders.start_soon(self._send, lane)
            if isinstance(self._child, SpawnFailure):
                outcome = self._child.outcome
                if not self._child.is_refusal:
                    await self._lanes["stderr"].add(self._child.output)
            else:
                outcome = await self._child.run(self._keep, READ)
            for lane in self._lanes.values():
                lane.finish()
        return outcome

    async def _keep(self, stream: StreamName, data: bytes) -> None:
        if not self._is_gone:
            await self._lanes[stream].add(data)

    async def _send(self, lane: Lane) -> None:
        while (data := await lane.next()) is not None:
            if not self._is_gone:
                await self._ask("POST", "logs", chunk_body(lane.stream, lane.index, data))
                lane.index += 1

    async def _ask(self, method: str, what: str, body: object) -> None:
        """Say it until it is answered, or until the task is found to be another's."""
        failures = 0
        while not self._is_gone:
            answer = await self._try(method, what, body)
            if answer is not None and not answer.is_passing:
                return
            failures += 1
            await trio.sleep(min(RETRY_CEILING, reconnect_delay(failures, self._rng)))

    async def _try(self, method: str, what: str, body: object) -> Answer | None:
        began = trio.current_time()
        try:
            answer = await self._client.call(method, f"/tasks/{self.number}/{what}", body)
        except NoAnswer:
            return None
        if answer.is_good:
            self._last_contact = max(self._last_contact, began)
        elif not answer.is_passing:
            self._lose(answer.why)
        return answer

    def _lose(self, why: str) -> None:
        """It is not ours any more, or never was: it ends, and nobody is told of it."""
        if not self._is_gone:
            self._is_gone = True
            self._say(f"task {self.number} is given up: {why}")
            self.abandon()
            for lane in self._lanes.values():
                lane.drop()

    async def _beat(self) -> None:
        """Renew the lease, and hear whether the task is to end."""
        ordered: object = None
        while not self._is_gone:
            began = trio.current_time()
            answer = await self._try("POST", "heartbeat", {"wait": WAIT})
            told = answer.value if answer is not None and answer.is_good else None
            if isinstance(told, dict) and told.get("cancel") and told != ordered:
                ordered = told
                self._kill(Reason.KILLED, _text(told.get("signal")), _seconds(told.get("grace")))
            await trio.sleep_until(began + PAUSE)

    async def _fence(self) -> None:
        """Stop it before the server, out of contact for too long, gives it to another."""
        while (due := self._last_contact + FENCE * LEASE) > trio.current_time():  # noqa: ASYNC110
            await trio.sleep_until(due)
        self._say(f"out of contact for too long: stopping task {self.number}")
        self.abandon((1 - FENCE) / 2 * LEASE, None)


def _status(outcome: Outcome) -> dict[str, Any]:
    if outcome.is_success:
        return {"status": "succeeded", "complete": True}
    return {
        "status": "failed",
        "reason": outcome.reason.value,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "complete": True,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(value, MAX_GRACE)) if value >= 0 else None
