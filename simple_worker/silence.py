"""Waits for the ends of processes, and for their first output: one task and one descriptor for all.

Most small jobs print nothing: the tasks of each, one for itself and two for its pipes, would be a
quarter of what it costs the worker. With one descriptor for all, many ends are seen in one look.
"""

import select
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import trio

LOOKS: Final = 2
"""In turn, before anything else is done. While what was begun in the first is waited for, others
end, and the CPUs have nothing to do until their slots are taken again."""


class Silences:
    """The processes of which nothing was read yet. Leave it when there are none any more."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Silence] = {}
        self.then: Callable[[], object] = _nothing
        """Called after each look, when all that was seen in it has been told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._epoll.close()

    def begin(self, pidfd: int, pipes: Sequence[int], *, is_fed: bool) -> "Silence":
        """Watch a process; one that is fed its input is never silent.

        Raises:
            OSError: the kernel has no room for it.
        """
        silence = Silence(self, pidfd, pipes)
        try:
            if is_fed:
                silence.is_over = True
            else:
                for descriptor in (silence.pidfd, *pipes):
                    self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLONESHOT)
                    self._watched[descriptor] = silence
        except OSError:
            silence.end()
            raise
        return silence

    def forget(self, descriptor: int) -> None:
        """It is closed, or waited for elsewhere, from now on."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """See what happens to them, for ever."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for _ in range(LOOKS):
                self._look()

    def _look(self) -> None:
        over = set()
        for descriptor, events in self._epoll.poll(0):
            silence = self._watched.pop(descriptor)  # it tells of itself only once
            if descriptor == silence.pidfd:
                silence.has_ended = True
                over.add(silence)
            elif events & select.EPOLLIN:
                over.add(silence)
            else:
                silence.open_pipes.remove(descriptor)
        for silence in over:
            silence.end()
            silence.then()
        if over:
            self.then()


class Silence:
    """One process of which nothing was read yet; its descriptors are its caller's to close."""

    def __init__(self, silences: Silences, pidfd: int, pipes: Sequence[int]) -> None:
        self._silences = silences
        self.pidfd = pidfd
        self.open_pipes = set(pipes)
        """Those that something may still write to, or that hold output."""
        self.has_ended = False
        self.is_over = False
        """Whether it has ended, or has written something."""
        self.then: Callable[[], object] = _nothing
        """Called when that is seen."""

    def end(self) -> None:
        """Watch it no more."""
        for descriptor in (self.pidfd, *self.open_pipes):
            self._silences.forget(descriptor)
        self.is_over = True


def _nothing() -> None:
    """Nobody waits for it yet."""
