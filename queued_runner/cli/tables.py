"""Tables of jobs and workers, as wide as the terminal; elsewhere as wide as they need to be.

It owns columns, colours and widths, and that nothing in a cell can steer a terminal. Colour only on
a terminal, never with NO_COLOR.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from queued_runner.cli.output import COLOURS, command_line, printable
from queued_runner.cli.wording import ago, counted, duration, took

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

Json = Mapping[str, Any]

NO_EDGE: Final = 1_000_000
"""Columns of what is no terminal: nothing is cut there, `grep` finds all of it."""

GAP: Final = 2
"""Columns between two cells."""

NARROWEST: Final = 30
"""Columns that the last cell gets rather than those that can be spared."""

LONGEST_NAME: Final = 20
"""Characters of a name, on a terminal."""

LONGEST_CELL: Final = 500
"""Characters that a terminal is given of one cell: no line shows more."""


def console() -> "Console":
    """Where tables go: our output."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(file=sys.stdout, highlight=False)
    return Console(file=sys.stdout, highlight=False, width=NO_EDGE)


def print_table(table: "RenderableType") -> None:
    """Write it; lines end where their text does."""
    out = console()
    with out.capture() as capture:
        out.print(table, soft_wrap=False)
    for line in capture.get().splitlines():
        print(line.rstrip(), file=out.file)


def jobs_table(jobs: Iterable[Json], now: datetime) -> "Table":
    """Jobs, a line each; what they do comes last, and is cut at the edge."""
    heads = ("ID", "STATE", "TRY", "CREATED", "TOOK", "WORKER", "GROUP", "JOB")
    rows = [
        (
            str(job["id"]),
            state_text(job["state"]),
            str(job["attempt"]),
            ago(job["created_at"], now),
            took(job, now),
            _short(None if job["state"] == "queued" else job["worker"]),
            _short(job["group"]),
            printable(job["name"] or "") or command_line(job),
        )
        for job in jobs
    ]
    return table(heads, rows, right=("ID", "TRY"), spare=("GROUP", "WORKER", "TRY", "CREATED"))


def workers_table(workers: Iterable[Json]) -> "Table":
    """Workers, a line each; with their servers where they have several."""
    workers = list(workers)
    has_servers = len({worker["server"] for worker in workers if worker["state"] != "away"}) > 1
    rows = [
        (
            _short(worker["name"]),
            worker["state"],
            # What waits for a slot runs not yet; one that takes nothing more has free ones as well.
            f"{min(worker['taken'], worker['slots'])}/{worker['slots']}",
            *([_short(worker["server"])] if has_servers else []),
            worker["address"],
            worker["version"],
            " ".join(f"{key}={value}" for key, value in worker["labels"].items()),
        )
        for worker in workers
    ]
    server = ["SERVER"] if has_servers else []
    return table(("NAME", "STATE", "BUSY", *server, "ADDRESS", "VERSION", "LABELS"), rows)


def servers_table(servers: Iterable[Json]) -> "Table":
    """Servers of a queue, a line each."""
    rows = [
        (
            server["name"],
            duration(server["silence"]),
            str(server["workers"]),
            str(server["running"]),
            server["id"],
        )
        for server in servers
    ]
    return table(("NAME", "SILENT", "WORKERS", "RUNNING", "ID"), rows, right=("WORKERS", "RUNNING"))


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence["str | Text"]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> "Table":
    """Rows under their heads.

    Where there is no room for all of it the last column is cut, and where too little would be left
    of that, columns in `spare` are left out, the first one first.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = [[item if isinstance(item, Text) else _cell(item) for item in row] for row in rows]
    widths = {
        head: max([cell_len(head), *(row[index].cell_len for row in cells)])
        for index, head in enumerate(heads)
    }
    *before, last = heads
    edge = console().width
    for head in spare:
        if _room(edge, widths, before) >= min(NARROWEST, widths[last]):
            break
        before.remove(head)
    widths[last] = min(widths[last], max(_room(edge, widths, before), 1))
    result = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for head in (*before, last):
        result.add_column(
            head, justify="right" if head in right else "left", no_wrap=True, overflow="ellipsis",
            width=widths[head],
        )  # fmt: skip
    shown = [heads.index(head) for head in (*before, last)]
    for row in cells:
        result.add_row(*(row[index] for index in shown))
    return result


def _room(edge: int, widths: Mapping[str, int], before: Sequence[str]) -> int:
    """What is left for the last column."""
    return edge - sum(widths[head] + GAP for head in before)


def summary(counts: Mapping[str, int]) -> str:
    """How many jobs there are, and in which states, in a line."""
    total = sum(counts.values())
    return f"{total:,} job{'' if total == 1 else 's'}: {counted(counts)}"


def state_text(state: str) -> "Text":
    """A state in its colour."""
    from rich.text import Text

    return Text(state, style=COLOURS.get(state, ""))


def _cell(value: str | None) -> "Text":
    """Text that is shown and not obeyed, neither by the terminal nor as markup."""
    from rich.text import Text

    text = printable(value or "-")
    return Text(text[:LONGEST_CELL] if sys.stdout.isatty() else text)


def _short(name: str | None) -> str:
    """A name that leaves room for what stands beside it, on a terminal."""
    text = printable(name or "-")
    is_long = len(text) > LONGEST_NAME and sys.stdout.isatty()
    return f"{text[: LONGEST_NAME - 1]}…" if is_long else text
