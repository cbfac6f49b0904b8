"""One accepted connection of a worker, as the runner's side knows it.

Owns what is known of it: how much of its output waits for the disk, whether it is read, what it has
listed. Who speaks on it when is `server.py`'s.
"""

from typing import Final

import trio

from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost, RemoteProtocolError
from remote_runner.pool import PooledWorker
from remote_runner.protocol.messages import Attempts, AttemptState, Message, Ping
from remote_runner.types import Waiting

MAX_LISTED: Final = 65_536
"""Attempts that one worker may list: more is a lie, or a machine that nobody has."""
ANSWER: Final = 2.0
"""Seconds that a worker has to answer when another one presents its id."""
UNACKED_MARK: Final = 8 * 1024 * 1024
UNACKED_PER_RUN: Final = 64 * 1024
"""Small output is acknowledged only with its outcome, so each run may hold this much more."""


class Session:
    """One accepted connection of a worker."""

    def __init__(self, emitter: DuplexEmitter[Message], worker: PooledWorker) -> None:
        self.emitter = emitter
        self.worker = worker
        self.unacked = 0
        self.is_paused = False
        """Whether we do not read it: its silence is then ours."""
        self.was_mistaken = False
        """Whether it was taken for a baseline worker and is none: it refuses what such a one is
        given."""
        self.is_welcome = False
        self.wait_until_adoptable: Waiting | None = None
        """For what it holds; None: that is not this server's yet."""
        self._listed: dict[str, tuple[AttemptState, int]] = {}
        self._below_mark = trio.lowlevel.ParkingLot()
        self._answered: trio.Event | None = None

    def send(self, message: Message) -> None:
        """Send in the control lane; a connection that has come to its end swallows it."""
        try:
            self.emitter.send_nowait(message)
        except ConnectionLost:
            pass

    def on_acked(self, size: int) -> None:
        """`size` more bytes of this session's output are durable."""
        self.unacked -= size
        if self._below_mark and not self._is_above_mark():
            self._below_mark.unpark_all()

    def _is_above_mark(self) -> bool:
        return self.unacked > UNACKED_MARK + UNACKED_PER_RUN * len(self.worker.runs)

    async def wait_below_mark(self) -> None:
        """Block while more output is undurable than this connection may hold in memory."""
        while self._is_above_mark() and self.emitter.is_open:
            self.is_paused = True
            await self._below_mark.park()
        if self.is_paused:
            self.go_on()

    def go_on(self) -> None:
        """It is read again: its silence is its own from now on."""
        self.is_paused = False
        self.emitter.last_received = trio.current_time()

    async def is_alive(self) -> bool:
        """Whether its worker answers. One that we do not read cannot, and is taken for alive."""
        if self.is_paused or not self.is_welcome:
            return self.is_welcome
        if self._answered is None:
            self._answered = trio.Event()
        self.send(Ping(0))
        with trio.move_on_after(ANSWER) as waiting:
            await self._answered.wait()
        return self.emitter.is_open and not waiting.cancelled_caught

    def on_pong(self) -> None:
        """It has answered."""
        if self._answered is not None:
            self._answered.set()
            self._answered = None

    def leave(self) -> None:
        """Nothing that is acknowledged from now on reaches it: wait for nothing more."""
        self._below_mark.unpark_all()
        self.on_pong()  # who waits for an answer gets none

    def list_attempts(self, message: Attempts) -> None:
        """Take a part of the worker's list."""
        for run_id, state, offset in message.items:
            self._listed[run_id] = (state, offset)
        if len(self._listed) > MAX_LISTED:
            raise RemoteProtocolError(f"more than {MAX_LISTED} attempts")

    def take_list(self) -> dict[str, tuple[AttemptState, int]]:
        """The whole list, once."""
        listed, self._listed = self._listed, {}
        return listed
