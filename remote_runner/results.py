"""The files that a job leaves behind, as one stream of bytes, and what they may be. Pure.

Owns the head of that stream (one line of JSON: the names and sizes of the files whose bytes follow,
in that order, and what was left out) and the rules for names. Both ends check with it: the worker
before it reads a file, the server before it believes a head.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

FOLDER: Final = "results"
"""Its name, in a job's scratch directory."""
MAX_FILES: Final = 1000
MAX_NAME: Final = 1024
"""Bytes of a whole name as UTF-8; of a part between slashes 255, as file systems have it."""
MAX_PART: Final = 255
MAX_HEAD: Final = 4 * 1024 * 1024
"""Bytes of the head, its newline included: more than so many such names take, however written."""
MAX_TOLD: Final = 20
"""Of what was left out so many are named; all are counted."""
MAX_WHY: Final = 200


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One file: its name, a relative path with `/`, and its bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in the folder that is no result, and why, as a part of a sentence."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Head:
    """What a stream of results begins with. `left_out_count` counts also what is not named."""

    files: tuple[ResultFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def offset_of(self, name: str) -> tuple[int, int] | None:
        """Where a file begins behind the head, and its size; None: there is none of this name."""
        offset = 0
        for file in self.files:
            if file.name == name:
                return offset, file.size
            offset += file.size
        return None


class BadHead(ValueError):
    """The stream does not begin as it must."""


def name_problem(name: str) -> str | None:
    """Why a file may not have this name; None: it may."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > MAX_NAME:
        return f"its name is longer than {MAX_NAME} bytes"
    if not name.isprintable():
        return "its name has characters that cannot be printed"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "its name is not a plain relative path"
        if len(part.encode()) > MAX_PART:
            return f"its name has a part that is longer than {MAX_PART} bytes"
    return None


def shown(name: str) -> str:
    """A name that may be anything, so that it can be printed, shortened where it is long."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return text if len(text) <= MAX_WHY else text[: MAX_WHY - 1] + "…"


def encode_head(head: Head) -> bytes:
    """The head as it stands at the front of the stream."""
    value = {
        "files": [[file.name, file.size] for file in head.files],
        "left_out": [[item.name, item.why] for item in head.left_out],
        "left_out_count": head.left_out_count,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def parse_head(line: bytes) -> Head:
    """The head in the first line of a stream, checked.

    Raises:
        BadHead: it is none, or names what may not be named.
    """
    if len(line) > MAX_HEAD:
        raise BadHead(f"the head is longer than {MAX_HEAD} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise BadHead("the head is not JSON") from None
    if not isinstance(value, dict):
        raise BadHead("the head is not an object")
    files = tuple(ResultFile(*row) for row in _rows(value, "files", MAX_FILES, int))
    left_out = tuple(
        LeftOut(shown(name), shown(why)) for name, why in _rows(value, "left_out", MAX_TOLD, str)
    )
    count = value.get("left_out_count", len(left_out))
    if type(count) is not int or not len(left_out) <= count < 1 << 53:
        raise BadHead("left_out_count is not a number of files")
    _check_names(files)
    return Head(files, left_out, count)


def _rows(value: dict[str, Any], key: str, most: int, kind: type) -> Sequence[tuple[str, Any]]:
    rows = value.get(key, [])
    if not isinstance(rows, list) or len(rows) > most:
        raise BadHead(f"{key} is not a list of at most {most}")
    for row in rows:
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)):
            raise BadHead(f"{key} holds something that is not a pair with a name")
        if type(row[1]) is not kind:
            raise BadHead(f"{key} holds a pair of another kind")
    return [(row[0], row[1]) for row in rows]


def _check_names(files: Sequence[ResultFile]) -> None:
    names = {file.name for file in files}
    if len(names) < len(files):
        raise BadHead("two files have one name")
    for file in files:
        problem = name_problem(file.name)
        if problem is not None:
            raise BadHead(f"{shown(file.name)!r}: {problem}")
        if not 0 <= file.size < 1 << 53:
            raise BadHead(f"{shown(file.name)!r}: its size is not a number of bytes")
        at = file.name.find("/")
        while at >= 0:
            if file.name[:at] in names:
                raise BadHead(f"{shown(file.name)!r} lies in a file")
            at = file.name.find("/", at + 1)
