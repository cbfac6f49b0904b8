"""Output records as frames of a live stream: server-sent events, or MessagePack. Pure.

It owns the two encodings and the resume point of each. It waits for nothing and sends nothing.

A character of UTF-8 is never split over two events of one stream: its first bytes wait for the
rest. The `id` of an event is the offset below which everything was sent. Only when another stream
speaks while such bytes wait, no single offset says that; the id then also lists what is still
owed: `9~2-3` means everything below 9 but bytes 2 to 3. From the second attempt on its number
stands before it: `2:9`. Clients give ids back as they came.
"""

import base64
import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import msgpack

from queued_runner.log_files import Record

MAX_OFFSET: Final = 1 << 62
MAX_OWED: Final = 6
"""Bytes of one range that is owed: each of two streams keeps three at most."""
_RESUME = re.compile(r"([0-9]{1,9}:)?[0-9]{1,19}(~[0-9]{1,19}-[0-9]{1,19}){0,8}")


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Everything below `offset` of an attempt was received, but for the byte ranges in `owed`.

    `attempt` is None where the text names none: an id of the first attempt, or a plain offset.
    """

    offset: int
    owed: tuple[tuple[int, int], ...] = ()
    attempt: int | None = None


def parse_resume(text: str) -> ResumePoint | None:
    """The point an id names, or None when it is not one of ours."""
    if not text.isascii() or _RESUME.fullmatch(text) is None:
        return None
    number, colon, rest = text.partition(":")
    first, *ranges = (rest if colon else text).split("~")
    offset = int(first)
    owed = []
    for item in ranges:
        begin, _, end = item.partition("-")
        owed.append((int(begin), int(end)))
    attempt = int(number) if colon else None
    are_odd = any(not begin < end <= min(offset, begin + MAX_OWED) for begin, end in owed)
    if offset > MAX_OFFSET or are_odd or attempt == 0:
        return None
    return ResumePoint(offset, tuple(owed), attempt)


class Encoder(Protocol):
    """Turns records into the bytes of a stream."""

    media_type: str

    def begin(self) -> bytes: ...
    def record(self, record: Record) -> bytes: ...
    def keep_alive(self) -> bytes: ...
    def gap(self, begin: int, end: int) -> bytes: ...
    def end(self, outcome: Mapping[str, Any]) -> bytes: ...


class MsgpackEncoder:
    """`[offset, at_ms, stream, bytes]` a record, nil as keep-alive, one map at the end."""

    media_type = "application/vnd.msgpack"

    def __init__(self) -> None:
        self._packer = msgpack.Packer(use_bin_type=True)

    def begin(self) -> bytes:
        return b"\xc0"

    def record(self, record: Record) -> bytes:
        packed: bytes = self._packer.pack(
            (record.offset, record.at_ms, record.stream, bytes(record.data))
        )
        return packed

    def keep_alive(self) -> bytes:
        return b"\xc0"

    def gap(self, begin: int, end: int) -> bytes:
        return b""  # its reader counts offsets, and the outcome says what is missing at the end

    def end(self, outcome: Mapping[str, Any]) -> bytes:
        packed: bytes = self._packer.pack(dict(outcome))
        return packed


class SseEncoder:
    """Server-sent events `stdout`, `stderr`, `gap` and `end`."""

    media_type = "text/event-stream"

    def __init__(
        self, offset: int = 0, attempt: int = 1, owed: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._position = offset
        self._prefix = f"{attempt}:" if attempt > 1 else ""
        self._tails: dict[str, list[tuple[int, int]]] = {"stdout": [], "stderr": []}
        """Of each stream, the bytes of a character that is not complete: `(offset, byte)`."""
        self._lacking = list(owed)
        """What an earlier stream kept, and is yet to come, as ranges of offsets in their order."""
        self._at = 0

    def begin(self) -> bytes:
        return b"retry: 1000\n\n"

    @property
    def start(self) -> int:
        """From where on it is to get records. What an earlier stream kept may not be stored yet,
        where its server was killed."""
        return min([self._position, *(begin for begin, _ in self._lacking)])

    def take_back(self, record: Record) -> None:
        """Keep what of a record an earlier stream kept, and did not send."""
        for begin, end in self._lacking:
            owed = _part(record, begin, end)
            self._tails[record.stream] += enumerate(owed.data, owed.offset)
        after = record.offset + len(record.data)
        self._lacking = [(max(begin, after), end) for begin, end in self._lacking if end > after]

    def record(self, record: Record) -> bytes:
        if record.offset < self._position:
            self.take_back(record)
            record = _part(record, self._position, record.offset + len(record.data))
            if not record.data:
                return b""
        gap = b""
        if record.offset > self._position:
            gap = self._event("gap", {"from": self._position, "to": record.offset})
        self._at = record.at_ms
        tail = self._tails[record.stream]
        data = bytes(byte for _, byte in tail) + record.data
        kept = _incomplete(data)
        if kept:
            places = [place for place, _ in tail]
            places += range(record.offset, record.offset + len(record.data))
            self._tails[record.stream] = list(
                zip(places[-kept:], data[-kept:], strict=True)  # at most three
            )
            data = data[:-kept]
        elif tail:
            self._tails[record.stream] = []
        self._position = record.offset + len(record.data)
        return gap + (self._output(record.stream, data) if data else b"")

    def keep_alive(self) -> bytes:
        return b": keep-alive\n\n"

    def gap(self, begin: int, end: int) -> bytes:
        """Say, once, that the bytes from `begin` to `end` were written and are not stored."""
        if end <= self._position:
            return b""
        rest = self._flush()
        begin, self._position = max(begin, self._position), end
        return rest + self._event("gap", {"from": begin, "to": end})

    def end(self, outcome: Mapping[str, Any]) -> bytes:
        return self._flush() + self._event("end", outcome)

    def _flush(self) -> bytes:
        """The bytes that waited for the rest of their character: it does not come."""
        rest = b""
        for stream, tail in self._tails.items():
            if tail:
                self._tails[stream] = []
                rest += self._output(stream, bytes(byte for _, byte in tail))
        return rest

    def _output(self, stream: str, data: bytes) -> bytes:
        try:
            return self._event(stream, {"at": self._at, "text": data.decode()})
        except UnicodeDecodeError:
            text = base64.b64encode(data).decode()
            return self._event(stream, {"at": self._at, "base64": text})

    def _event(self, name: str, data: Mapping[str, Any]) -> bytes:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return f"event: {name}\nid: {self._id()}\ndata: {text}\n\n".encode("utf-8", "replace")

    def _id(self) -> str:
        owed = [place for tail in self._tails.values() for place, _ in tail]
        owed += [place for begin, end in self._lacking for place in range(begin, end)]
        owed.sort()
        position = self._position
        while owed and owed[-1] == position - 1:
            position = owed.pop()
        ranges: list[tuple[int, int]] = []
        for place in owed:
            if ranges and ranges[-1][1] == place:
                ranges[-1] = (ranges[-1][0], place + 1)
            else:
                ranges.append((place, place + 1))
        return f"{self._prefix}{position}" + "".join(f"~{begin}-{end}" for begin, end in ranges)


def _part(record: Record, begin: int, end: int) -> Record:
    """What of a record lies between two offsets; it may be nothing."""
    start = max(begin, record.offset)
    data = record.data[start - record.offset : max(end - record.offset, 0)]
    return replace(record, offset=start, data=data)


def _incomplete(data: bytes) -> int:
    """How many bytes at the end begin a character of which more must come."""
    for size in range(1, min(3, len(data)) + 1):
        if data[-size] & 0xC0 == 0x80:
            continue
        try:
            _, used = codecs.utf_8_decode(data[-size:], "strict", False)
        except UnicodeDecodeError:
            return 0
        return size if used == 0 else 0
    return 0
