"""`ps`: which jobs there are. It changes nothing.

It owns which of them are shown. As JSON they go out page by page: there may be more than fit into
memory.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from queued_runner.cli.job_arguments import jobs_argument, newest_first
from queued_runner.cli.options import Connect, json_option, option, server_options
from queued_runner.cli.output import write_json_list
from queued_runner.cli.selectors import Selector
from queued_runner.cli.tables import console, jobs_table, print_table, summary

if TYPE_CHECKING:
    from rich.console import RenderableType

    from queued_runner.client.api import Client

STATES: Final = ("queued", "running", "succeeded", "failed", "cancelled")
DEFAULT_LIMIT: Final = 100
PERIOD: Final = 1.0
"""Seconds between two looks of `--watch`."""

EPILOG = """\b
Examples:
  queued-runner ps
  queued-runner ps --group nightly --state failed
  queued-runner ps --watch
"""


@click.command(epilog=EPILOG)
@server_options
@option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@option("--group", "-g", help="Only jobs of this group.")
@option("--name", help="Only jobs of this name.")
@option(
    "--limit",
    type=click.IntRange(min=1),
    help="At most so many, the newest; default 100, with --json and --group or IDs all.",
)
@option("--watch", "-w", is_flag=True, help="Show them anew each second, until Ctrl-C.")
@json_option
@jobs_argument
def ps(
    connect: Connect,
    state: str | None,
    group: str | None,
    name: str | None,
    limit: int | None,
    watch: bool,
    as_json: bool,
    selectors: tuple[Selector, ...],
) -> None:
    """List jobs, the newest first: those of a group, those that IDs name, or all."""
    if watch:
        if as_json or not sys.stdout.isatty():
            raise click.UsageError(
                "--watch is for a terminal; a program asks again, or reads"
                " 'queued-runner events -f'."
            )
    elif limit is None and not (as_json and (group or selectors)):
        limit = DEFAULT_LIMIT
    question = _Question(selectors, state, group, name)
    with connect() as client:
        if watch:
            _watch(client, question, limit)
            return
        jobs = question.ask(client, limit)
        if as_json:
            write_json_list(jobs)
            return
        table = jobs_table(jobs, datetime.now(UTC))
        words = question.summary(client)
    print_table(table)
    if words:
        click.echo(words)


@dataclass(frozen=True)
class _Question:
    """Which jobs are shown."""

    selectors: Sequence[Selector]
    state: str | None
    group: str | None
    name: str | None

    def ask(self, client: "Client", limit: int | None) -> Iterator[dict[str, Any]]:
        """The newest of them, as they are now."""
        kind = {"state": self.state, "group": self.group, "name": self.name}
        if self.selectors:
            return islice(newest_first(client, self.selectors, **kind), limit)
        return client.jobs(**kind, before=None, limit=limit)

    def summary(self, client: "Client") -> str | None:
        """How the whole group is, where it is about one."""
        counts = client.group_counts(self.group) if self.group else None
        return summary(counts) if counts else None


def _watch(client: "Client", question: _Question, limit: int | None) -> None:
    from rich.live import Live

    screen = console()
    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while True:
                # The newest that fit; the heads, the summary and the cursor need a line each.
                fitting = max(1, screen.height - 3)
                jobs = question.ask(client, min(limit or fitting, fitting))
                shown = jobs_table(jobs, datetime.now(UTC))
                live.update(_with_summary(shown, question.summary(client)), refresh=True)
                time.sleep(PERIOD)
        except KeyboardInterrupt:
            return  # the way to leave it


def _with_summary(table: "RenderableType", words: str | None) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    return Group(table, Text(words)) if words else table
