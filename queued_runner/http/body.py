"""Request bodies: read whole, within a size and a time, inflated when they are gzip.

It owns the limits of what a client may send. It knows no route and looks at no value; how gzip is
inflated is `gunzip.py`'s.
"""

from typing import Final

import trio
from starlette.types import Receive

from queued_runner.http.gunzip import Gunzip, NotGzip, TooLarge

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of a body, before and after inflating."""

BODY_SECONDS: Final = 30.0
"""Seconds for the whole body: a half-sent one would stay open for ever otherwise."""


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
    gunzip = Gunzip(limit) if encoding == "gzip" else None
    body = bytearray()
    received = 0
    try:
        with trio.move_on_after(seconds) as scope:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientLeft
                chunk = message.get("body", b"")
                received += len(chunk)
                if received > limit:
                    raise _too_large(limit)
                if gunzip is None:
                    body += chunk
                else:
                    await gunzip.feed(chunk)
                if not message.get("more_body", False):
                    break
        if scope.cancelled_caught:
            raise BodyRefused(408, f"The body did not arrive within {seconds:g} seconds.")
        return bytes(body) if gunzip is None else await gunzip.finish()
    except NotGzip as error:
        raise BodyRefused(400, f"The body is not gzip: {error}.") from None
    except TooLarge:
        raise _too_large(limit) from None


def _too_large(limit: int) -> BodyRefused:
    return BodyRefused(413, f"A body may have {limit:,} bytes; send the rest in another request.")
