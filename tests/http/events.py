"""Server-sent events, read as a client reads them."""

import base64
import json
from typing import Any

Event = tuple[str, str, dict[str, Any]]
"""Its name, its id, its data."""


def parse_events(body: bytes) -> list[Event]:
    """The events of a whole stream."""
    events = []
    for block in body.decode().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line[:1] not in (":", "")
        )
        if "event" in fields:
            events.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return events


def bytes_of(events: list[Event], stream: str) -> bytes:
    """What the events say was written to a stream."""
    return b"".join(
        data["text"].encode() if "text" in data else base64.b64decode(data["base64"])
        for name, _, data in events
        if name == stream
    )
