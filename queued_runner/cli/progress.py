"""How far a wait has come: a bar on a terminal, else a line now and then. It decides nothing."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from queued_runner.cli.options import say
from queued_runner.cli.pace import Pace
from queued_runner.cli.wording import counted, duration, rate

FIRST_LINE: Final = 30.0
"""Seconds until the first line; each further one comes after twice as long."""

LONGEST_BETWEEN_LINES: Final = 600.0

Show = Callable[[int, dict[str, int]], None]
"""Gets how many have ended, and how many of all there are of each kind that is worth a word."""


@contextmanager
def progress_of(total: int) -> Iterator[Show]:
    """Show, on stderr, how far `total` jobs are; a single one's end tells enough elsewhere."""
    if sys.stderr.isatty():
        with _bar(total) as show:
            yield show
    elif total > 1:
        yield _Lines(total).show
    else:
        yield lambda ended, kinds: None


@contextmanager
def _bar(total: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(bar_width=max(10, min(40, console.width // 4))),
        MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        words = _Words(total)

        def show(ended: int, kinds: dict[str, int]) -> None:
            progress.update(task, completed=ended, description=words.at(ended, kinds))

        yield show


class _Words:
    """States, pace and time left, as a few words."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._pace: Pace | None = None

    def at(self, ended: int, kinds: dict[str, int]) -> str:
        now = time.monotonic()
        if self._pace is None:  # what had ended before says nothing of the pace
            self._pace = Pace(now, ended)
        self._pace.add(now, ended)
        words = [counted(kinds)]
        left = self._pace.seconds_for(self._total - ended)
        if left:
            words += [rate(self._pace.rate), f"{duration(max(1, round(left)))} left"]
        return " · ".join(filter(None, words))


class _Lines:
    def __init__(self, total: int) -> None:
        self._total = total
        self._words = _Words(total)
        self._pause = FIRST_LINE
        self._due = time.monotonic() + self._pause

    def show(self, ended: int, kinds: dict[str, int]) -> None:
        words = self._words.at(ended, kinds)
        if time.monotonic() >= self._due and ended < self._total:
            say(f"{ended:,} of {self._total:,} jobs have ended" + (f" · {words}" if words else ""))
            self._pause = min(2 * self._pause, LONGEST_BETWEEN_LINES)
            self._due = time.monotonic() + self._pause
