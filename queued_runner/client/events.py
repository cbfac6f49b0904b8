"""The events of a server as a client reads them: resumed where they were when a connection broke.

It owns the reading of server-sent events and the place in them. It prints nothing.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpx2

from queued_runner.client.api import STREAM_SILENCE
from queued_runner.client.errors import ClientError, Unreachable
from queued_runner.client.link import EVENTS, Link

MAX_LINE: Final = 1024 * 1024
"""Characters of one line: no event of ours has as many."""

Json = dict[str, Any]


def events(
    link: Link, *, group: str | None = None, job: int | None = None, follow: bool = False
) -> Iterator[Json]:
    """What the server remembers, the oldest first; with `follow` then what comes, for ever.

    What nobody can tell any more, for the server was restarted or forgot it, is an event `gap`.

    Raises:
        Unreachable: the server stayed away for `detach` seconds.
        Refused: it does not know such a group or job.
    """
    place: str | None = None
    while True:
        try:
            for item in _stream(link, place, {"group": group, "job": job, "follow": follow}):
                link.progress()
                if item is not None:
                    place = item["id"]
                    if "event" in item:
                        yield item
            if not follow:
                return
            error: ClientError = Unreachable(f"{link.server.url} ended the events.")
        except httpx2.TransportError as failure:
            error = link.unreachable(failure)
        except (ValueError, TypeError, KeyError):
            error = link.not_understood()
        except ClientError as refusal:
            error = refusal
        if not link.is_passing(error):
            raise error
        link.retry(error)


def _stream(link: Link, place: str | None, params: Json) -> Iterator[Json | None]:
    """Events, places without one (`{"id": …}`), None for a sign of life."""
    with link.http.stream(
        "GET",
        "/api/v1/events",
        params={key: value for key, value in params.items() if value is not None},
        headers={"Last-Event-ID": place} if place is not None else {},
        timeout=httpx2.Timeout(30.0, connect=5.0, read=STREAM_SILENCE),
    ) as response:
        link.check(response)
        if not response.headers.get("content-type", "").startswith(EVENTS):
            raise link.not_understood()
        link.seen()
        data: Json = {}
        for line in _lines(response.iter_text()):
            if line.startswith("id: "):
                data.setdefault("id", line[4:])
            elif line.startswith("data: "):
                data = json.loads(line[6:])
            elif not line and data:
                yield data
                data = {}
            elif line.startswith(":"):
                yield None


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines in a text that comes in pieces. Raises ValueError where one does not end."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        if len(rest) > MAX_LINE:
            raise ValueError("a line without an end")
        yield from lines
