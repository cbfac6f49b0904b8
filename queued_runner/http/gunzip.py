"""Gzip inflated within a bound: little at once where it is, much in a thread. It reads nothing.

It owns what a gzip body may be: one whole stream of gzip, within a size. A bomb costs no more than
that size, and the event loop no more than the first `INLINE` bytes of each `PIECE`.
"""

import zlib
from typing import Final

import trio

INLINE: Final = 64 * 1024
"""Inflated bytes that are made on the event loop: they take a fraction of a millisecond."""
SMALL: Final = 16 * 1024
"""Bytes of gzip that may have so few in them; more goes into a thread at once."""
PIECE: Final = 256 * 1024
"""Bytes of gzip that are gathered before they are inflated: a thread for each that the network
delivers takes longer than to inflate it."""
MAX_THREADS: Final = 2
"""Bodies that are inflated at the same time; the others wait."""

_GZIP: Final = 31
"""zlib's `wbits` of the gzip format with the largest window."""


class NotGzip(Exception):
    """These bytes are not one whole stream of gzip; the message says why."""


class TooLarge(Exception):
    """Inflated it is larger than the limit."""


class Gunzip:
    """Inflates what it is fed, in pieces as they come. At most `limit` bytes come out."""

    def __init__(self, limit: int) -> None:
        self._left = limit + 1
        self._stream = zlib.decompressobj(_GZIP)
        self._limiter = _limiter()
        self._waiting = bytearray()
        self._inflated: list[bytes] = []
        self._is_fed = False

    async def feed(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            NotGzip: it is not gzip, or goes on after its end.
            TooLarge: there is more in it than the limit.
        """
        self._waiting += data
        if len(self._waiting) >= PIECE:
            await self._inflate_waiting()

    async def finish(self) -> bytes:
        """All that was inflated; nothing, if nothing was fed.

        Raises:
            NotGzip: it is not gzip, ends too early, or goes on after its end.
            TooLarge: there is more in it than the limit.
        """
        await self._inflate_waiting()
        if self._is_fed and not self._stream.eof:
            raise NotGzip("it ends too early")
        return b"".join(self._inflated)

    async def _inflate_waiting(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        self._is_fed = self._is_fed or bool(data)
        if len(data) <= SMALL:
            data = self._inflate(data, INLINE)
        if data:
            await trio.to_thread.run_sync(self._inflate_all, data, limiter=self._limiter)

    def _inflate_all(self, data: bytes) -> None:
        while data:
            data = self._inflate(data, self._left)

    def _inflate(self, data: bytes, size: int) -> bytes:
        """Up to so many bytes more; what is left to inflate."""
        if not data:
            return b""
        if self._stream.eof:
            raise NotGzip("there is something after its end")
        try:
            inflated = self._stream.decompress(data, min(size, self._left))
        except zlib.error as error:
            raise NotGzip(str(error)) from None
        self._inflated.append(inflated)
        self._left -= len(inflated)
        if self._left <= 0:
            raise TooLarge
        return self._stream.unconsumed_tail or self._stream.unused_data


_limiters: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("gunzip threads")


def _limiter() -> trio.CapacityLimiter:
    """The one of this event loop."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = trio.CapacityLimiter(MAX_THREADS)
        _limiters.set(limiter)
        return limiter
