"""How far a wait has come: a bar on a terminal, nothing elsewhere. It decides nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, done: int) -> Iterator[Callable[[], object]]:
    """A bar on stderr while entered; the function that it gives moves it one step on."""
    if not sys.stderr.isatty():
        yield lambda: None  # rich would print its last line into a pipe
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda: progress.advance(task)
