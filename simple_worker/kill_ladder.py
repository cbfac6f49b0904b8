"""When a process gets which signal: its timeout, the first signal, the grace, SIGKILL.

Owns the reason why a process was ended. Pure but for `send`: the clock is a parameter.
"""

import math
import signal
from collections.abc import Callable

from remote_runner.signals import signal_number
from remote_runner.types import Command, Reason


class KillLadder:
    """The ladder of one process.

    Args:
        command: its timeout, signal and grace.
        send: gets the number of each signal, until `stop`; SIGTERM for one that this machine
            does not know.
        now: when the process began; all times are seconds on that clock.
    """

    def __init__(self, command: Command, send: Callable[[int], None], now: float) -> None:
        self.reason: Reason | None = None
        """Why the first signal was sent; None while none was."""
        self.is_over = False
        self.due = math.inf if command.timeout is None else now + command.timeout
        """When `climb` has something to do next."""
        self.last_rung = math.inf
        """When SIGKILL is due, or was sent."""
        self._signal = command.kill_signal
        self._grace = command.kill_grace
        self._send = send

    def begin(
        self, reason: Reason, signal_name: str | None, grace: float | None, now: float
    ) -> None:
        """Send the signal, SIGKILL after the grace. Again: with what is given anew."""
        if self.is_over or self._is_at_top:
            return
        if self.reason is None:
            self.reason = reason
        self._signal = signal_name or self._signal
        self._grace = self._grace if grace is None else grace
        self.due = self.last_rung = now + self._grace
        self._send(signal_number(self._signal) or signal.SIGTERM)

    def climb(self, now: float) -> None:
        """Send what is due."""
        if self.is_over or now < self.due:
            return
        if self.reason is None:
            self.begin(Reason.TIMEOUT, None, None, now)
        else:
            self.due = math.inf
            self._send(signal.SIGKILL)

    def stop(self) -> None:
        """The process has ended: nothing is sent from now on, and the reason stands."""
        self.is_over = True
        self.due = math.inf

    @property
    def _is_at_top(self) -> bool:
        return self.reason is not None and self.due == math.inf
