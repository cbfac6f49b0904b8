"""Bytes ⇄ values: the MessagePack stream, JSON lines, and the limits of both. Knows no event.

One `msgpack.Unpacker` a connection would hold about 43 KiB of parse stack, and nested array headers
make it allocate megabytes from a few bytes. So the MessagePack decoder has one for a moment only,
and for what is small and flat, as most is that is ever said. It walks the headers of all else
itself, and hands only whole, measured values to `msgpack.unpackb`: a few microseconds a value.
"""

import json
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final, NoReturn, Protocol, cast

import msgpack

from remote_runner.errors import LocalProtocolError, RemoteProtocolError

Value = Any
"""What both codecs carry: None, bool, int, float, str, bytes, list, dict with str keys."""

MAX_VALUE_BEFORE_HELLO: Final = 4 * 1024
MAX_VALUE: Final = 1024 * 1024
MAX_ITEMS: Final = 1024
"""Items of one array, or pairs of one map."""
MAX_DEPTH: Final = 16

_SMALL: Final = 16 * 1024
"""Bytes that one `msgpack.Unpacker` gets."""
_SMALL_ITEMS: Final = 15
"""Items of an array, or pairs of a map, in these: memory is taken for all of them beforehand."""
_SPARSE: Final = 8
"""Bytes to a header of an array or a map, at least. So no nesting, of at most 1,024 levels, takes
more than 200 KiB."""
_CONTAINERS: Final = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
"""The first bytes of arrays and maps."""
_TIMESTAMPS: Final = (b"\xd6\xff", b"\xd7\xff", b"\x04\xff", b"\x08\xff", b"\x0c\xff")
"""What is in each header of the one extension that `msgpack.Unpacker` takes without asking."""


class Codec(StrEnum):
    """How values travel in one direction of a connection."""

    MSGPACK = "msgpack"
    JSON_LINES = "json-lines"


class Decoder(Protocol):
    """Takes bytes in any chunking, gives whole values."""

    max_value: int

    def feed(self, data: bytes) -> list[Value]:
        """The values that are complete now.

        Raises:
            RemoteProtocolError: the bytes break the format or a limit. The decoder is then dead.
        """
        ...

    @property
    def has_partial(self) -> bool:
        """Whether a value has begun and not ended."""
        ...


# What each header byte means: (bytes of length field, fixed payload, items) is spelled out in
# `_header`; tables keep the walk to one lookup for the common bytes.
_FIXED_PAYLOAD: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}  # fmt: skip
_SIZED_PAYLOAD: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}


class MsgpackDecoder:
    """A stream of MessagePack arrays, nothing between them.

    Memory: the bytes of one unfinished value (at most `max_value`) and a stack of `MAX_DEPTH`
    numbers; nothing else is kept between two calls.
    """

    __slots__ = ("_buffer", "_open", "_scanned", "max_value")

    def __init__(self, max_value: int = MAX_VALUE_BEFORE_HELLO) -> None:
        self.max_value = max_value
        self._buffer = bytearray()
        self._scanned = 0
        self._open: list[int] = []

    @property
    def has_partial(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Value]:
        if self._buffer:
            self._buffer += data
            view: bytes | bytearray = self._buffer
        else:
            view = data
        values: list[Value] = []
        start = 0
        if view is data and _is_small(data):
            values, start = _small_values(data, self.max_value)
        while (end := self._scan(view, start)) is not None:
            values.append(_unpack(view, start, end))
            start = end
        if view is not self._buffer:
            if start < len(view):
                self._buffer += memoryview(view)[start:]
        elif start == len(view):
            self._buffer = bytearray()  # a cleared bytearray may keep its memory
        elif start:
            del self._buffer[:start]
        self._scanned -= start
        return values

    def _scan(self, view: bytes | bytearray, start: int) -> int | None:
        """The end of the value that begins at `start`, or None while it is incomplete.

        `_scanned` (absolute in `view`) and `_open` (items still to come, a level each) keep the
        place between calls, so that a value in many pieces is walked once.
        """
        size = len(view)
        pos = max(self._scanned, start)
        stack = self._open
        limit = start + self.max_value
        while True:
            if pos > limit:
                self._too_large()
            if pos >= size:
                break
            byte = view[pos]
            if pos == start and not (0x90 <= byte <= 0x9F or byte in _ARRAYS):
                raise RemoteProtocolError(
                    f"expected an event as a MessagePack array, got the byte 0x{byte:02x}"
                )
            items = -1
            if byte <= 0x7F or byte >= 0xE0:  # fixint
                after = pos + 1
            elif byte >= 0xA0 and byte <= 0xBF:  # fixstr
                after = pos + 1 + (byte & 0x1F)
            elif byte <= 0x8F:  # fixmap
                after, items = pos + 1, 2 * (byte & 0x0F)
            elif byte <= 0x9F:  # fixarray
                after, items = pos + 1, byte & 0x0F
            elif byte in _FIXED_PAYLOAD:
                after = pos + 1 + _FIXED_PAYLOAD[byte]
            else:
                width = _SIZED_PAYLOAD.get(byte) or _ARRAYS.get(byte) or _MAPS.get(byte)
                if width is None:
                    raise RemoteProtocolError(
                        f"MessagePack type 0x{byte:02x} is not part of this protocol"
                    )
                after = pos + 1 + width
                if after > size:
                    break
                length = int.from_bytes(view[pos + 1 : after], "big")
                if byte in _SIZED_PAYLOAD:
                    after += length
                else:
                    if length > MAX_ITEMS:
                        raise RemoteProtocolError(
                            f"an array or map of {length} items; the limit is {MAX_ITEMS}"
                        )
                    items = 2 * length if byte in _MAPS else length
            if after > limit:
                self._too_large()
            if after > size:
                break
            pos = after
            if items > 0:
                if len(stack) >= MAX_DEPTH:
                    raise RemoteProtocolError(f"values are nested deeper than {MAX_DEPTH}")
                stack.append(items)
                continue
            while stack:
                stack[-1] -= 1
                if stack[-1]:
                    break
                stack.pop()
            if not stack:
                self._scanned = pos
                return pos
        self._scanned = pos
        return None

    def _too_large(self) -> NoReturn:
        raise RemoteProtocolError(f"a value is larger than {self.max_value} bytes")


def _small_values(data: bytes, max_value: int) -> tuple[list[Value], int]:
    """The values at the beginning of `data` that break no limit for certain, and where they end."""
    unpacker = msgpack.Unpacker(
        object_pairs_hook=_pairs,
        strict_map_key=False,
        ext_hook=_refuse_extension,
        max_array_len=_SMALL_ITEMS,
        max_map_len=_SMALL_ITEMS,
    )
    unpacker.feed(data)
    values: list[Value] = []
    end = 0
    try:
        for value in unpacker:
            start, after = end, unpacker.tell()
            piece = data[start:after]
            if type(value) is not list or len(piece) > max_value or _headers(piece) > MAX_DEPTH:
                break
            values.append(value)
            end = after
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException, RemoteProtocolError):
        pass  # the walk says it, of the same value
    return values, end


def _is_small(data: bytes) -> bool:
    is_sparse = len(data) <= _SMALL and _headers(data) * _SPARSE <= len(data)
    return is_sparse and not any(time in data for time in _TIMESTAMPS)


def _headers(data: bytes) -> int:
    """The bytes that may begin an array or a map: nothing in it is nested deeper than so."""
    return len(data) - len(data.translate(None, _CONTAINERS))


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise RemoteProtocolError("MessagePack extensions are not part of this protocol")


def _pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise RemoteProtocolError("the keys of a map must be strings")
        if key in result:
            raise RemoteProtocolError(f"a map has the key {key[:64]!r} twice")
        result[key] = value
    return result


def _unpack(view: bytes | bytearray, start: int, end: int) -> Value:
    whole = start == 0 and end == len(view)
    try:
        return msgpack.unpackb(
            view if whole else memoryview(view)[start:end],
            object_pairs_hook=_pairs,
            strict_map_key=False,  # `_pairs` refuses other keys, with a sentence
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(f"not valid MessagePack: {error}") from error


class JsonLinesDecoder:
    """A JSON array a line, bytes as `{"type": "Buffer", "data": [104, 105]}`."""

    __slots__ = ("_buffer", "max_value")

    def __init__(self, max_value: int = MAX_VALUE_BEFORE_HELLO) -> None:
        self.max_value = max_value
        self._buffer = bytearray()

    @property
    def has_partial(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Value]:
        values: list[Value] = []
        start = 0
        while (newline := data.find(b"\n", start)) >= 0:
            line = data[start:newline]
            start = newline + 1
            if self._buffer:
                line = bytes(self._buffer + line)
                self._buffer = bytearray()
            if len(line) > self.max_value:
                self._too_large()
            if line.strip():
                values.append(_parse_line(line))
        self._buffer += data[start:]
        if len(self._buffer) > self.max_value:
            self._too_large()
        return values

    def _too_large(self) -> NoReturn:
        raise RemoteProtocolError(f"a line is larger than {self.max_value} bytes")


def _refuse_constant(name: str) -> NoReturn:
    raise RemoteProtocolError(f"{name} is not JSON")


def _parse_line(line: bytes) -> Value:
    try:
        value = json.loads(line, object_pairs_hook=_pairs, parse_constant=_refuse_constant)
        if b"\\u" in line:  # may be half a character, which nothing else could hold
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"not a line of JSON: {error}") from error
    if not isinstance(value, list):
        raise RemoteProtocolError("expected an event as a JSON array")
    return _from_json(value, 1)


def _from_json(value: Any, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise RemoteProtocolError(f"values are nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        if value.get("type") == "Buffer" and isinstance(value.get("data"), list):
            try:
                return bytes(value["data"])
            except (ValueError, TypeError) as error:
                raise RemoteProtocolError(f"a Buffer holds only bytes: {error}") from error
        items: Iterable[Any] = value.values()
        convert: Callable[[], Value] = lambda: {  # noqa: E731
            key: _from_json(item, depth + 1) for key, item in value.items()
        }
    elif isinstance(value, list):
        items = value
        convert = lambda: [_from_json(item, depth + 1) for item in value]  # noqa: E731
    else:
        return value
    if len(cast("list[Any]", items)) > MAX_ITEMS:
        raise RemoteProtocolError(f"an array or map of more than {MAX_ITEMS} items")
    return convert()


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": "Buffer", "data": list(value)}
    raise TypeError(f"{type(value).__name__} cannot travel")


_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


def encode(codec: Codec, value: Value) -> bytes:
    """One value as the bytes of `codec`.

    Raises:
        LocalProtocolError: the value holds something that cannot travel.
    """
    try:
        if codec is Codec.MSGPACK:
            return cast("bytes", _packer.pack(value))
        text = json.dumps(value, default=_to_json, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        _packer.reset()
        raise LocalProtocolError(f"cannot send this value: {error}") from error


HTTP_REPLY: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"\r\nThis is duplex-runner's port for workers. The HTTP API is on another port "
    b"(8633 unless --http-port says otherwise).\n"
)
TEXT_REPLY: Final = (
    b"This is duplex-runner's port for workers: it speaks MessagePack or JSON lines, without TLS.\n"
)


def detect(first: int) -> Codec:
    """Which codec a peer speaks, by its first byte.

    Raises:
        RemoteProtocolError: neither; `reply` is something that a person understands.
    """
    if first == 0x5B:
        return Codec.JSON_LINES
    if 0x90 <= first <= 0x9F or first in _ARRAYS:
        return Codec.MSGPACK
    if 0x41 <= first <= 0x5A:  # a capital letter: GET, POST, OPTIONS …
        raise RemoteProtocolError("this looks like an HTTP request, not a worker", HTTP_REPLY)
    raise RemoteProtocolError(
        f"the first byte 0x{first:02x} begins neither MessagePack nor JSON lines", TEXT_REPLY
    )


def decoder(codec: Codec, max_value: int = MAX_VALUE_BEFORE_HELLO) -> Decoder:
    """A fresh decoder."""
    return (MsgpackDecoder if codec is Codec.MSGPACK else JsonLinesDecoder)(max_value)
