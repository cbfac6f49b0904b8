"""`Marked`: the processes of this machine that bear a mark in their environment, and their end.

The contract of a plug marks its commands, so that nothing of a plug which breaks it stays behind.
"""

import os
import secrets
import signal
from pathlib import Path
from typing import Final

VARIABLE: Final = "JOB_RUNNER_CONFORMANCE"
"""The environment variable that carries the mark."""


class Marked:
    """Processes with one mark, that nothing else has: those that inherit it have it too."""

    def __init__(self) -> None:
        self.env = {VARIABLE: secrets.token_hex(16)}
        """What to add to the environment of a command that is to bear the mark."""
        self.ended: set[int] = set()
        """The pids of those that `end` has met."""
        self._entry = f"{VARIABLE}={self.env[VARIABLE]}".encode()

    def pids(self) -> list[int]:
        """Those that run; a zombie does not."""
        return [
            int(entry) for entry in os.listdir("/proc") if entry.isdigit() and self._bears(entry)
        ]

    def end(self) -> None:
        """Send SIGKILL to each, until there is none that can be seen."""
        while pids := self.pids():
            self.ended.update(pids)
            for pid in pids:
                self._end(pid)

    def _bears(self, pid: int | str) -> bool:
        try:
            return self._entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False  # it has ended, or is somebody else's

    def _end(self, pid: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return
        try:
            if self._bears(pid):  # the number may be that of another by now
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except OSError:
            pass  # it has just ended
        finally:
            os.close(descriptor)
