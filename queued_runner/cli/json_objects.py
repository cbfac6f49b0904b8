"""JSON objects out of a text, one after the other: one, an array of them, or one a line. Pure.

It owns that a text of any length is read in bounded memory, and that what is wrong with it is told
with its line. What the objects mean it does not know.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, Protocol

CHUNK: Final = 1 << 16
LONGEST: Final = 16 * 1024 * 1024
"""Characters of one object, at most: the server takes no more in one request."""

_LONGEST_WORD: Final = 16
"""No less than `-Infinity`: what ends so close to the end of the text may be cut off there."""


class BadInput(ValueError):
    """What was to be read cannot be; the message says where, and what is right."""

    exit_code = 2


class Source(Protocol):
    """A text that is read in pieces."""

    def read(self, size: int, /) -> str: ...


def read_objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object, and the line on which it begins.

    Raises:
        BadInput: there is something else than objects; those before it have been given.
    """
    text = _Text(source)
    is_array = text.next_character() == "["
    if is_array:
        text.skip(1)
    is_first = True
    while (begun := text.next_character()) != ("]" if is_array else ""):
        if is_array and not is_first:
            if begun != ",":
                raise BadInput(f"line {text.line}: a comma is missing between two jobs")
            text.skip(1)
            begun = text.next_character()
        if begun != "{":
            what = "the text ends too early" if not begun else f"{begun!r} does not begin a job"
            raise BadInput(
                f'line {text.line}: {what}; a job is an object, as {{"command": "make"}}'
            )
        yield text.line, text.take_object()
        is_first = False
    if is_array:
        text.skip(1)
        if text.next_character():
            raise BadInput(f"line {text.line}: something stands behind the array")


class _Text:
    """The part of a text that is not yet taken, as far as it has been read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._decode = json.JSONDecoder().raw_decode
        self._read = ""
        self._at = 0
        self.line = 1

    def next_character(self) -> str:
        """The next one that is not blank; empty at the end. It stays."""
        while True:
            rest = len(self._read)
            begin = self._at
            while begin < rest and self._read[begin] in " \t\r\n":
                begin += 1
            self.skip(begin - self._at)
            if begin < rest:
                return self._read[begin]
            if not self._more():
                return ""

    def skip(self, size: int) -> None:
        self.line += self._read.count("\n", self._at, self._at + size)
        self._at += size

    def take_object(self) -> dict[str, Any]:
        """The object that begins here."""
        while True:
            try:
                value: dict[str, Any]
                value, end = self._decode(self._read, self._at)
            except json.JSONDecodeError as error:
                if len(self._read) - self._at > LONGEST:
                    raise BadInput(
                        f"line {self.line}: the job that begins here is too large"
                    ) from None
                line = self.line + self._read.count("\n", self._at, error.pos)
                if not (self._may_go_on(error) and self._more()):
                    raise BadInput(f"line {line}: this is not JSON: {error.msg}") from None
            except RecursionError:
                raise BadInput(f"line {self.line}: this is nested too deeply") from None
            except ValueError as error:
                raise BadInput(f"line {self.line}: {error}") from None
            else:
                self.skip(end - self._at)
                return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether what is wrong may only be that the rest has not been read."""
        return error.pos > len(self._read) - _LONGEST_WORD or error.msg.startswith(
            ("Unterminated string", "Invalid \\")
        )

    def _more(self) -> bool:
        self._read = self._read[self._at :]
        self._at = 0
        try:
            # As much again as there is: an object is then decoded a few times, not very often.
            more = self._source.read(max(CHUNK, len(self._read)))
        except UnicodeDecodeError:
            raise BadInput(f"behind line {self.line}: this is not UTF-8") from None
        self._read += more
        return bool(more)
