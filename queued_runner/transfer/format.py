"""A queue as lines of JSON: what a line is, how lines follow each other, when they are whole. Pure.

Each line is a row, as `{"jobs": {"id": 1, ...}}`: of a table of the store, or of one that only such
a file has. Bytes are base64, and what is NULL is left out. Nothing in it is an engine's own, so
that the same queue gives the same bytes, wherever it lies.
"""

import hashlib
import json
import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final

from queued_runner.errors import TransferRefused
from queued_runner.store.tables import TABLES, Column, Table, table

VERSION: Final = 1
"""Of the format, the tables and columns included."""
MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of a line with its end: more than the largest job has."""
_MAX_INTEGER: Final = 1 << 63

HEADER: Final = table(
    "queue",
    "version INTEGER NOT NULL, identity TEXT NOT NULL, last_id INTEGER NOT NULL",
)
OUTPUT: Final = table(
    "output",
    "job_id INTEGER NOT NULL, number INTEGER NOT NULL, offset INTEGER NOT NULL,"
    " at_ms INTEGER NOT NULL, stream TEXT NOT NULL, data BLOB NOT NULL",
    keys=2,
)
"""Output of attempts that lies in files, as it came."""
RESULT: Final = table(
    "result",
    "job_id INTEGER NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, data BLOB NOT NULL",
    keys=3,
)
"""Results that lie in files, each in pieces."""
END: Final = table("end", "lines INTEGER NOT NULL, sha256 TEXT NOT NULL")
"""How many lines come before, and what they are together."""
ORDER: Final = (HEADER, *TABLES, OUTPUT, RESULT, END)
_KNOWN: Final = {each.name: each for each in ORDER}
_NAMES: Final = {each.name: {column.name for column in each.columns} for each in ORDER}

Row = Sequence[Any]


class BadLine(TransferRefused):
    """What was read is not what an export wrote. The sentence repeats nothing of it."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}; nothing was imported: make the export again")


def encode(shape: Table, row: Row) -> bytes:
    """A row as a line."""
    fields = {
        column.name: b64encode(value).decode() if column.kind == "BLOB" else value
        for column, value in zip(shape.columns, row, strict=True)
        if value is not None
    }
    line = {shape.name: fields}
    try:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a character, in the name of a worker, say
        return json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> tuple[Table, Row]:
    """The row of a line.

    Raises:
        ValueError: it is none; why.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"it has more than {MAX_LINE:,} bytes")
    if not line.endswith(b"\n"):
        raise ValueError("it is torn")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("it is not one row")
    ((name, fields),) = value.items()
    shape = _KNOWN.get(name)
    if shape is None:
        raise ValueError("it is a row of a table that this release does not know")
    if not isinstance(fields, dict) or not _NAMES[name].issuperset(fields):
        raise ValueError(f"it has a field that {name} has not")
    return shape, tuple(_value(column, fields.get(column.name)) for column in shape.columns)


def _value(column: Column, value: Any) -> Any:
    if value is None:
        if column.may_be_null:
            return None
        raise ValueError(f"it has no {column.name}")
    if column.kind == "TEXT" and isinstance(value, str):
        return value
    if column.kind == "BLOB" and isinstance(value, str):
        try:
            return b64decode(value, validate=True)
        except ValueError:
            raise ValueError(f"its {column.name} is not base64") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if column.kind == "INTEGER" and isinstance(value, int) and abs(value) < _MAX_INTEGER:
            return value
        if column.kind == "REAL" and abs(value) < _MAX_INTEGER and math.isfinite(value):
            return float(value)
    raise ValueError(f"its {column.name} is no {column.kind}")


class Seal:
    """What lines are together."""

    def __init__(self) -> None:
        self._lines = 0
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> None:
        """The next line."""
        self._lines += 1
        self._hash.update(line)

    def end(self) -> Row:
        """The row of the last line, which is not itself among them."""
        return self._lines, self._hash.hexdigest()


class Order:
    """Whether rows come as an export writes them: table by table, by their keys, without gaps."""

    def __init__(self) -> None:
        self._rank = -1
        self._key: tuple[Any, ...] = ()
        self._size = 0
        self._last_id = 0

    def check(self, shape: Table, row: Row) -> None:
        """Take the next row.

        Raises:
            ValueError: it cannot be the next; why.
        """
        rank = ORDER.index(shape)
        if self._rank == -1 and shape is not HEADER:
            raise ValueError("it is not the beginning of an export")
        key = tuple(row[: shape.keys])
        is_next = rank > self._rank or (rank == self._rank and key > self._key)
        is_more = shape in (OUTPUT, RESULT) and (rank, key) == (self._rank, self._key)
        if not is_next and not is_more:
            raise ValueError(f"this row of {shape.name} comes out of turn")
        if shape is HEADER:
            self._begin(row)
        elif shape is not END and any(isinstance(part, int) and part < 1 for part in key[:2]):
            raise ValueError("ids and numbers begin at 1")
        if shape.name == "jobs" and row[0] > self._last_id:
            raise ValueError("its id is higher than any that a job had")
        if shape in (OUTPUT, RESULT):
            self._take_piece(shape, row, is_more)
        self._rank, self._key = rank, key

    def _begin(self, row: Row) -> None:
        version, identity, self._last_id = row
        if version != VERSION:
            raise ValueError("another release wrote this; import it with that one")
        if not identity or self._last_id < 0:
            raise ValueError("it is not the beginning of an export")

    def _take_piece(self, shape: Table, row: Row, is_more: bool) -> None:
        offset, data = row[2 if shape is OUTPUT else 3], row[-1]
        if offset != (self._size if is_more else 0) or not data:
            raise ValueError("a piece is missing before it")
        if shape is OUTPUT and (row[3] < 0 or row[4] not in ("stdout", "stderr")):
            raise ValueError("it is no output")
        if shape is RESULT and row[2] < 0:
            raise ValueError("it is no result")
        self._size = offset + len(data)

    @property
    def is_whole(self) -> bool:
        """Whether the last line has come."""
        return self._rank == len(ORDER) - 1
