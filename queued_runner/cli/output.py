"""What verbs write: bytes of jobs, JSON, plain tables.

It owns that the bytes of a job go out as they came and at once, and that names which people chose
cannot steer a terminal. Colour only on a terminal, never with NO_COLOR.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import click

_COLOURS = {
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


def print_json(value: Any) -> None:
    """One value on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def write_json_list(values: Iterable[Any], before: str = "", after: str = "\n") -> None:
    """A JSON list, written as its values come: it may be longer than memory."""
    write = sys.stdout.write
    write(f"{before}[")
    for index, value in enumerate(values):
        write(f"{', ' if index else ''}{json.dumps(value, ensure_ascii=False)}")
    write(f"]{after}")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def command_line(job: Mapping[str, Any]) -> str:
    """The command of a job as one would type it."""
    return printable(shlex.join([job["command"], *job["args"]]))


def is_coloured(file: TextIO) -> bool:
    """Whether colour is wanted there."""
    return file.isatty() and not os.environ.get("NO_COLOR")


def coloured_state(state: str) -> str:
    """The state, coloured where that is wanted."""
    return click.style(state, fg=_COLOURS.get(state)) if is_coloured(sys.stdout) else state


def age(time: str | None) -> str:
    """How long ago a time of the API is: `12s`, `5m`, `3h`, `2d`."""
    if time is None:
        return "-"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need; on a terminal the last one is cut at its edge."""
    plain = [[click.unstyle(cell) for cell in row] for row in rows]
    widths = [
        max(len(head), *(len(row[index]) for row in plain)) if plain else len(head)
        for index, head in enumerate(heads)
    ]
    edge = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    before_last = sum(widths[:-1]) + 2 * (len(heads) - 1)
    for row in (heads, *rows):
        cells = [
            cell + " " * (width - len(click.unstyle(cell)))
            for cell, width in zip(row[:-1], widths[:-1], strict=True)
        ]
        last = row[-1]
        if edge > before_last and len(click.unstyle(last)) > edge - before_last:
            last = last[: max(1, edge - before_last - 1)] + "…"
        click.echo("  ".join([*cells, last]).rstrip())
