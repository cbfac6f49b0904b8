"""Secrets in output: in which forms they are looked for, and how they are hidden in a stream.

Pure: bytes in, bytes out. Every byte that belongs to a secret, in any form, is hidden, and each run
of such bytes becomes one `***`, wherever the pieces of the stream begin and end. Best effort, as
everywhere: a job that wants to show its secret (reversed, encrypted) can.
"""

import re
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Iterable, Iterator
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
_UNRESERVED: Final = ("", "/", "!'()*")
"""What is left as it is: by curl, in a path, by JavaScript."""


class Mask:
    """What to hide. Nothing of it shows in its repr.

    Args:
        secrets: texts; white space around them is not looked for, so that `"s\\n"` hides `s`.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found: set[bytes] = set()
        for secret in secrets:
            value = _encode(secret).strip()
            if value:
                for form in (*_lines(value), *_forms(value)):
                    found.update(_pieces(form))
        self._patterns = sorted(found)
        self._longest = max(map(len, found), default=0)
        self._shortest = min(map(len, found), default=0)
        firsts = b"".join(map(re.escape, sorted({pattern[:1] for pattern in found})))
        self._first = re.compile(b"[" + firsts + b"]" if firsts else rb"(?!)", re.DOTALL)

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
        spans: list[tuple[int, int]] = []
        if len(data) < self._shortest:
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
        spans.sort()
        runs: list[tuple[int, int]] = []
        for start, end in spans:
            if runs and start <= runs[-1][1]:
                runs[-1] = runs[-1][0], max(end, runs[-1][1])
            else:
                runs.append((start, end))
        return runs

    def beginning(self, data: bytes) -> int:
        """Where the longest end of `data` begins that may be the beginning of a secret."""
        for match in self._first.finditer(data, max(0, len(data) - self._longest + 1)):
            rest = data[match.start() :]
            following = bisect_right(self._patterns, rest)
            if following < len(self._patterns) and self._patterns[following].startswith(rest):
                return match.start()
        return len(data)


class MaskedStream:
    """One stream of bytes without the secrets.

    The longest end that may be the beginning of a secret is held back, until more comes or the
    stream ends; not by time, or a secret that a slow program writes in two pieces would show.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = b""
        self._run: int | None = None
        """So many of the held bytes belong to the `***` that was given last; None: text was."""

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
        if len(held) < MIN_LINE:
            return self._show(held, len(held))
        return b"" if self._run is not None else HIDDEN

    def _show(self, data: bytes, until: int) -> bytes:
        """The bytes before `until`, hidden as all of `data` says."""
        parts: list[bytes] = []
        at, run = 0, self._run
        for start, end in self._mask.runs(data):
            if start >= until:
                break
            if run is not None and start <= run:  # the same run goes on
                run = max(run, end)
                continue
            at = at if run is None else run
            parts += (data[at:start], HIDDEN)
            run = end
        at = at if run is None else run
        if at < until:
            parts.append(data[at:until])
            run = None
        self._run = None if run is None else run - until
        return b"".join(parts)


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
    """The ways in which programs write it."""
    yield value
    yield from _base64(value)
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
    """What is certain of it, wherever it stands in what is encoded; and at the end of that."""
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
