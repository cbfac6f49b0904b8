"""When a process gets which signal: its timeout, the first signal, the grace, SIGKILL.

Owns the reason why a process was ended; sends no signal itself.
"""

import math
import signal
from collections.abc import Callable

import trio

from remote_runner.types import Command, Reason
from simple_worker.signals import signal_number


class KillLadder:
    """The ladder of one process. `send` gets the number of a signal, until `stop`."""

    def __init__(self, command: Command, send: Callable[[int], None]) -> None:
        self.reason: Reason | None = None
        """Why the first signal was sent; None while none was."""
        self.is_over = False
        self.last_rung = math.inf
        """When SIGKILL is due, on trio's clock."""
        self._limit = math.inf if command.timeout is None else command.timeout
        self._signal = command.kill_signal
        self._grace = command.kill_grace
        self._send = send
        self._begun = trio.Event()

    def begin(self, reason: Reason, signal_name: str | None, grace: float | None) -> None:
        """Send the signal now, SIGKILL after the grace. Again: with what is given anew."""
        if self.is_over:
            return
        if self.reason is None:
            self.reason = reason
        self._signal = signal_name or self._signal
        self._grace = self._grace if grace is None else grace
        self._begun.set()

    def stop(self) -> None:
        """The process has ended: nothing is sent from now on, and the reason stands."""
        self.is_over = True

    async def climb(self) -> None:
        """Send what is due, when it is due."""
        with trio.move_on_after(self._limit):
            await self._begun.wait()
        if not self.is_over and self.reason is None:
            self.reason = Reason.TIMEOUT
        while not self.is_over:
            self._begun = trio.Event()
            self._send(signal_number(self._signal))
            self.last_rung = trio.current_time() + self._grace
            with trio.move_on_at(self.last_rung) as grace:
                await self._begun.wait()
            if grace.cancelled_caught and not self.is_over:
                self._send(signal.SIGKILL)
                return
