"""What verbs write: bytes of jobs, JSON, commands.

It owns that the bytes of a job go out as they came and at once, and that names which people chose
cannot steer a terminal. Colour only on a terminal, never with NO_COLOR.
"""

import io
import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import click

COLOURS = {
    "queued": "cyan",
    "running": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
}


class ByteSink:
    """Standard output and error as bytes, each piece written through at once."""

    def __init__(self) -> None:
        self._files = {
            "stdout": sys.stdout.buffer,
            "stderr": sys.stderr.buffer,
        }

    def write(self, stream: str, data: bytes) -> None:
        """Write and flush.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        file = self._files[stream]
        file.write(data)
        file.flush()


def dropped(count: int) -> str:
    """What to say where output is not whole: `count` bytes were beyond the job's limit."""
    return f"{count} bytes of output were beyond --max-log-size and are dropped"


def spell_out_unknown_letters() -> None:
    """Have names shown as far as they can be, where a terminal has not all of their letters."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not _is_unicode(sys.stdout):
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_unicode(file: TextIO) -> bool:
    return (file.encoding or "").lower().replace("-", "").startswith("utf")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=not _is_unicode(sys.stdout))


def print_json(value: Any) -> None:
    """One value on one line."""
    click.echo(_json(value))


def write_json_list(values: Iterable[Any], before: str = "", after: str = "\n") -> None:
    """A JSON list, written as its values come: it may be longer than memory."""
    write = sys.stdout.write
    write(f"{before}[")
    for index, value in enumerate(values):
        write(f"{', ' if index else ''}{_json(value)}")
    write(f"]{after}")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def command_line(job: Mapping[str, Any]) -> str:
    """The command of a job as one would type it: pasted into a shell it is the same command."""
    words = [job["command"], *job["args"]]
    if job.get("shell"):
        return printable(" ".join(words))  # a text for a shell already
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if word.isprintable():
        if "'" in word and not set(word) & set('"$`\\!'):
            return f'"{word}"'  # for people, who can hardly read what `quote` makes of it
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def is_coloured(file: TextIO) -> bool:
    """Whether colour is wanted there."""
    return file.isatty() and not os.environ.get("NO_COLOR")


def coloured_state(state: str) -> str:
    """The state, coloured where that is wanted."""
    return click.style(state, fg=COLOURS.get(state)) if is_coloured(sys.stdout) else state
