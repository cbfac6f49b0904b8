"""Request bodies: read whole, within a size and a time, inflated when they are gzip.

It owns the limits of what a client may send. It knows no route and looks at no value.
"""

import zlib
from typing import Final

import trio
from starlette.types import Receive

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of a body, before and after inflating."""

BODY_SECONDS: Final = 30.0
"""Seconds for the whole body: a half-sent one would stay open for ever otherwise."""

_SLICE = 256 * 1024
"""Inflated bytes between two looks at the other tasks."""


class BodyRefused(Exception):
    """The body cannot be taken; `status` is the answer, the message says why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class ClientLeft(Exception):
    """The client went away before the body was complete: there is nobody to answer."""


async def read_body(
    receive: Receive,
    *,
    encoding: str = "",
    declared: int | None = None,
    limit: int = MAX_BODY,
    seconds: float = BODY_SECONDS,
) -> bytes:
    """The whole body.

    Raises:
        BodyRefused: too large (413), too slow (408), not gzip (400), another encoding (415).
        ClientLeft: the connection ended first.
    """
    if declared is not None and declared > limit:
        raise _too_large(limit)
    if encoding not in ("", "identity", "gzip"):
        raise BodyRefused(415, f"Content-Encoding {encoding!r} is not known; send gzip or plain.")
    inflate = _Inflate(limit) if encoding == "gzip" else None
    body = bytearray()
    received = 0
    with trio.move_on_after(seconds) as scope:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientLeft
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            if inflate is None:
                body += chunk
            else:
                await inflate.feed(chunk, body)
            if not message.get("more_body", False):
                break
    if scope.cancelled_caught:
        raise BodyRefused(408, f"The body did not arrive within {seconds:g} seconds.")
    if inflate is not None and received:
        inflate.finish()
    return bytes(body)


class _Inflate:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stream = zlib.decompressobj(31)

    async def feed(self, data: bytes, body: bytearray) -> None:
        while data:
            if self._stream.eof:
                raise BodyRefused(400, "There is something after the end of the gzip body.")
            try:
                body += self._stream.decompress(data, _SLICE)
            except zlib.error as error:
                raise BodyRefused(400, f"The body is not gzip: {error}.") from None
            if len(body) > self._limit:
                raise _too_large(self._limit)
            data = self._stream.unconsumed_tail or self._stream.unused_data
            await trio.lowlevel.checkpoint()

    def finish(self) -> None:
        if not self._stream.eof:
            raise BodyRefused(400, "The gzip body ends too early.")


def _too_large(limit: int) -> BodyRefused:
    return BodyRefused(413, f"A body may have {limit:,} bytes; send the rest in another request.")
