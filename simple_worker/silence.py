"""Waits for the end of a process and for its first output with one descriptor.

Most small jobs print nothing: to start two tasks for their pipes was a tenth of what they cost.
"""

import os
import select
import subprocess
from types import TracebackType
from typing import Self


class Silence:
    """A process of which nothing was read yet; leaving it keeps only `pidfd` open.

    A process that is fed its input is never silent.

    Raises:
        OSError: there are no descriptors left.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        pipes = [pipe.fileno() for pipe in (popen.stdout, popen.stderr) if pipe is not None]
        self.open_pipes = set(pipes)
        """Those that something may still write to, or that hold output."""
        self.is_unbroken = popen.stdin is None
        self.pidfd = os.pidfd_open(popen.pid)
        try:
            self._epoll = select.epoll()
            for descriptor in (self.pidfd, *pipes):
                self._epoll.register(descriptor, select.EPOLLIN)
        except OSError:
            os.close(self.pidfd)
            raise
        self.descriptor = self._epoll.fileno()
        """Becomes readable when there is something to `look` at."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._epoll.close()

    def look(self) -> bool:
        """Whether the process has ended."""
        has_ended = False
        for descriptor, events in self._epoll.poll(0):
            if descriptor == self.pidfd:
                has_ended = True
            elif events & select.EPOLLIN:
                self.is_unbroken = False
            else:
                self._epoll.unregister(descriptor)
                self.open_pipes.remove(descriptor)
        return has_ended
