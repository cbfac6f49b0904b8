"""The pipes of one child, without blocking: output read in chunks, input written as it is taken."""

import fcntl
import os
import sys
import termios
from typing import Final

import trio

from remote_runner.types import StreamName

WRITE: Final = 64 * 1024


class OutputPipe:
    """The read end of a child's stdout or stderr."""

    def __init__(self, stream: StreamName, descriptor: int, max_chunk: int) -> None:
        self.stream: StreamName = stream
        self._descriptor = descriptor
        self._max_chunk = max_chunk
        self._left: int | None = None
        self._waiting: trio.CancelScope | None = None
        os.set_blocking(self._descriptor, False)

    async def read(self) -> bytes:
        """The next bytes; empty at the end, or when all is read that was there at `finish`."""
        while self._left != 0:
            try:
                data = os.read(
                    self._descriptor, min(self._max_chunk, self._left or self._max_chunk)
                )
            except BlockingIOError:
                if self._left is not None:
                    break
                with trio.CancelScope() as self._waiting:
                    await trio.lowlevel.wait_readable(self._descriptor)
                continue
            if self._left is not None:
                self._left -= len(data)
            return data
        return b""

    def finish(self) -> None:
        """Nothing that may write is alive, so far as anybody knows: what is there is all."""
        count = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        self._left = int.from_bytes(count, sys.byteorder)
        if self._waiting is not None:
            self._waiting.cancel()


async def feed(descriptor: int, data: bytes, scope: trio.CancelScope) -> None:
    """Write a child's whole input in `scope`, and close it.

    A child that reads no more is right to do so.
    """
    rest = memoryview(data)
    os.set_blocking(descriptor, False)
    try:
        with scope:
            while rest:
                try:
                    rest = rest[os.write(descriptor, rest[:WRITE]) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(descriptor)
    except BrokenPipeError:
        pass
    finally:
        os.close(descriptor)
