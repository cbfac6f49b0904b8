"""Secrets in output: in which forms they are looked for, and how they are hidden in a stream.

Pure: bytes in, bytes out. Every byte that belongs to a secret, in any form, is hidden, and each run
of such bytes becomes one `***`, wherever the pieces of the stream begin and end. Best effort, as
everywhere: a job that wants to show its secret (reversed, encrypted) can.
"""

import re
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from json import dumps
from typing import Final
from urllib.parse import quote_from_bytes

HIDDEN: Final = b"***"
MIN_SECRET: Final = 3
"""Bytes. Anything shorter stands everywhere, and `***` would be longer than what it hides."""
MAX_SECRETS: Final = 64
MAX_SECRETS_SIZE: Final = 16 * 1024
"""Bytes of all secrets of a job: bounds what their forms take in a worker's memory (0.5 MB)."""
MIN_LINE: Final = 8
"""Bytes of a line of a secret, from which on it is one by itself; as Buildkite and GitHub do."""
PIECE: Final = 256
"""Bytes. What is longer is looked for in pieces: no more than one is ever held back."""
READ: Final = 8 * 1024
"""Bytes to feed at once: then the worst secrets and output take about a millisecond."""

_ESCAPE: Final = re.compile(rb"%[0-9A-F]{2}")
_COLUMNS: Final = (76, 64)
"""Where `base64` and PEM begin a new line."""
_CHARACTER: Final = len(b"x\r\n")
"""Bytes at most of a character of base64, which may stand in lines of any length."""
_UNRESERVED: Final = ("", "/", "!'()*")
"""What is left as it is: by curl, in a path, by JavaScript."""


class Mask:
    """What to hide. Nothing of it shows in its repr.

    Args:
        secrets: texts; white space around them is not looked for, so that `"s\\n"` hides `s`.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        plain: set[bytes] = set()
        encoded: set[bytes] = set()
        for secret in secrets:
            value = _encode(secret).strip()
            if value:
                for form in (*_lines(value), *_forms(value)):
                    plain.update(_pieces(form))
                for form in _base64(value):
                    encoded.update(_pieces(form))
        self._plain = _Patterns(plain)
        self._encoded = _Patterns(encoded)

    def hide(self, text: str) -> str:
        """The text without the secrets."""
        data = _encode(text)
        runs = self.runs(data)
        if not runs:
            return text
        ends = [0, *(end for _, end in runs)]
        starts = [*(start for start, _ in runs), len(data)]
        parts = (data[end:start] for end, start in zip(ends, starts, strict=True))
        return HIDDEN.join(parts).decode("utf-8", "replace")

    def runs(self, data: bytes) -> list[tuple[int, int]]:
        """Where to hide something: the first byte and the end of each run, in order, apart."""
        runs = self._plain.runs(data)
        if len(data) < self._encoded.shortest:
            return runs
        joined = _Joined(data)
        encoded = self._encoded.runs(joined.text)
        return _merged([*runs, *joined.places(encoded)]) if encoded else runs

    def beginning(self, data: bytes) -> int:
        """Where the longest end of `data` begins that may be the beginning of a secret."""
        begins = self._plain.beginning(data)
        if not self._encoded.longest:
            return begins
        before = max(0, len(data) - _CHARACTER * self._encoded.longest)
        joined = _Joined(data[before:])
        at = self._encoded.beginning(joined.text)
        return begins if at == len(joined.text) else min(begins, before + joined.place(at))


class MaskedStream:
    """One stream of bytes without the secrets.

    The longest end that may be the beginning of a secret is held back, until more comes or the
    stream ends; not by time, or a secret that a slow program writes in two pieces would show.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = b""
        self._known: list[tuple[int, int]] = []
        """What of the held bytes belongs to a secret, as far as that is certain."""
        self._was_hidden = False
        """What was given last is a `***`."""

    def feed(self, data: bytes) -> bytes:
        """What can be shown now. The time it takes is linear, whatever the data."""
        data = self._held + data
        until = self._mask.beginning(data)
        shown = self._show(data, until)
        self._held = data[until:]
        return shown

    def flush(self) -> bytes:
        """The rest, at the end of the stream. What was cut off in a secret is hidden too: an end of
        `MIN_LINE` bytes that is the beginning of one."""
        held, self._held = self._held, b""
        begun = held.rstrip(b"\r\n")
        if len(begun) < MIN_LINE:
            return self._show(held, len(held))
        return (b"" if self._was_hidden else HIDDEN) + held[len(begun) :]

    def _show(self, data: bytes, until: int) -> bytes:
        """The bytes before `until`, hidden as all of `data` says."""
        runs = self._mask.runs(data)
        if self._known:
            runs = _merged([*self._known, *runs])
        self._known = [(max(0, start - until), end - until) for start, end in runs if end > until]
        parts: list[bytes] = []
        at, was_hidden = 0, self._was_hidden
        for start, end in runs:
            if start >= until:
                break
            if start > at or not was_hidden:  # else the same run goes on
                parts += (data[at:start], HIDDEN)
            at, was_hidden = min(end, until), True
        if at < until:
            parts.append(data[at:until])
            was_hidden = False
        self._was_hidden = was_hidden
        return b"".join(parts)


class _Patterns:
    """Bytes to look for, all in the same data."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = sorted(patterns)
        self.longest = max(map(len, self._patterns), default=0)
        self.shortest = min(map(len, self._patterns), default=0)
        firsts = b"".join(map(re.escape, sorted({pattern[:1] for pattern in self._patterns})))
        self._first = re.compile(b"[" + firsts + b"]" if firsts else rb"(?!)", re.DOTALL)

    def runs(self, data: bytes) -> list[tuple[int, int]]:
        """Where some of them stand: the first byte and the end of each run, in order, apart."""
        spans: list[tuple[int, int]] = []
        if len(data) < self.shortest:
            return spans
        for pattern in self._patterns:
            size = len(pattern)
            at = data.find(pattern)
            while at >= 0:
                end = at + size
                while data.startswith(pattern, end):
                    end += size
                spans.append((at, end))
                at = data.find(pattern, end - size + 1)
        return _merged(spans)

    def beginning(self, data: bytes) -> int:
        """Where the longest end of `data` begins that is the beginning of one of them."""
        for match in self._first.finditer(data, max(0, len(data) - self.longest + 1)):
            rest = data[match.start() :]
            following = bisect_right(self._patterns, rest)
            if following < len(self._patterns) and self._patterns[following].startswith(rest):
                return match.start()
        return len(data)


class _Joined:
    """Data without its line breaks, but for those of empty lines: nothing goes on behind such a
    one, so that what may be the beginning of something is never long.

    Args:
        data: a break at its end is left out too, as what comes next may be a line.
    """

    def __init__(self, data: bytes) -> None:
        self._lines = data.split(b"\n")
        kept = self._lines
        if b"\r" in data:
            kept = [line.removesuffix(b"\r") for line in kept]
        self._kept = [*(line or b"\n" for line in kept[:-1]), kept[-1]]
        self.text = b"".join(self._kept)

    def place(self, at: int) -> int:
        """Where a byte of the text stands in the data."""
        ((start, _),) = self.places([(at, at + 1)])
        return start

    def places(self, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Where runs of the text stand in the data: in each line apart."""
        ends = list(accumulate(map(len, self._kept)))
        begins = list(accumulate((len(line) + 1 for line in self._lines), initial=0))
        for start, end in runs:
            line = bisect_right(ends, start)
            while start < end:
                until = min(end, ends[line])
                ahead = begins[line] + len(self._kept[line]) - ends[line]
                yield start + ahead, until + ahead
                start, line = until, line + 1


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same, in order and apart: what overlaps or touches is one."""
    spans.sort()
    runs: list[tuple[int, int]] = []
    for start, end in spans:
        if runs and start <= runs[-1][1]:
            runs[-1] = runs[-1][0], max(end, runs[-1][1])
        else:
            runs.append((start, end))
    return runs


def _encode(text: str) -> bytes:
    """As it stands in an environment. Never raises."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _lines(value: bytes) -> Iterator[bytes]:
    for line in value.splitlines():
        if len(line.strip()) >= MIN_LINE:
            yield line.strip()


def _forms(value: bytes) -> Iterator[bytes]:
    """The ways in which programs write it, but for base64."""
    yield value
    for safe in _UNRESERVED:
        quoted = quote_from_bytes(value, safe).encode()
        for text in (quoted, quoted.replace(b"%20", b"+")):
            yield text
            yield _ESCAPE.sub(lambda match: match[0].lower(), text)
    for is_ascii in (True, False):
        literal = dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=is_ascii)
        inner = _encode(literal[1:-1])
        yield from (inner, inner.replace(b"/", b"\\/"))  # the latter by PHP
    yield value.replace(b"'", b"'\"'\"'")  # for a shell, by Python
    yield value.replace(b"'", b"'\\''")  # by a shell


def _base64(value: bytes) -> Iterator[bytes]:
    """What is certain of it, wherever it stands in what is encoded; and at the end of that.

    Line breaks may be anywhere in it: `_Joined` takes them out of what is searched.
    """
    if len(value) < MIN_SECRET:
        return
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):
            first = (before * 8 + 5) // 6  # six bits a character
            text = encode(bytes(before) + value)[first:]
            certain = text[: (before + len(value)) * 8 // 6 - first]
            yield from (text, text.rstrip(b"="), certain)
            if not before:
                yield from _wrapped(certain)


def _wrapped(text: bytes) -> Iterator[bytes]:
    """Its lines, which are indented here and there, or in quotes, and cannot be joined."""
    for columns in _COLUMNS:
        for at in range(0, len(text), columns):
            if len(text) - at >= MIN_LINE:
                yield text[at : at + columns]


def _pieces(form: bytes) -> Iterator[bytes]:
    if len(form) <= PIECE:
        yield form
        return
    for at in range(0, len(form) - PIECE, PIECE):
        yield form[at : at + PIECE]
    yield form[-PIECE:]
