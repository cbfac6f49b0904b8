"""`wait`: until jobs have ended. It owns the progress bar and the status of several jobs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from queued_runner.cli.exit_status import ending, exit_status
from queued_runner.cli.options import json_option, open_client, option, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.selectors import SELECTOR, Selector, resolve
from queued_runner.client import Client, is_terminal


@click.command()
@server_options
@option("--group", "-g", help="All jobs of this group.")
@json_option
@click.argument("selectors", metavar="ID...", nargs=-1, type=SELECTOR)
@click.pass_context
def wait(
    ctx: click.Context,
    url: str | None,
    token_file: str | None,
    data_dir: str | None,
    group: str | None,
    as_json: bool,
    selectors: tuple[Selector, ...],
) -> None:
    """Wait until jobs have ended.

    For one ID the exit status is the job's; for several 0 if all succeeded, else 1.
    """
    if bool(selectors) == bool(group):
        raise click.UsageError("Give one or more IDs, or --group; 'queued-runner ps' lists both.")
    with open_client(url=url, token_file=token_file, data_dir=data_dir) as client:
        ended: dict[int, dict[str, Any]] = {}
        if group:
            found = list(client.jobs(group=group))
            ended = {job["id"]: job for job in found if is_terminal(job)}
            ids: Sequence[int] = sorted(job["id"] for job in found)
            if not found:
                click.echo(f"There is no job in the group {group!r}.", err=True)
        else:
            ids = resolve(client, selectors)
        _wait_all(client, ids, ended)
    jobs = [ended[job_id] for job_id in ids]
    if as_json:
        print_json(jobs)
    if not group and len(jobs) == 1:
        ctx.exit(exit_status(jobs[0]))
    failures = [job for job in jobs if job["state"] != "succeeded"]
    for job in failures[:20]:
        click.echo(f"job {job['id']} {ending(job)}", err=True)
    if len(failures) > 20:
        click.echo(f"and {len(failures) - 20} more did not succeed", err=True)
    ctx.exit(1 if failures else 0)


def _wait_all(client: Client, ids: Sequence[int], ended: dict[int, dict[str, Any]]) -> None:
    with _progress(len(ids)) as bar:
        bar.advance(len(ended))
        for job_id in ids:
            if job_id not in ended:
                ended[job_id] = client.wait(job_id)
                bar.advance(1)


class _Bar(Protocol):
    def advance(self, steps: int) -> None: ...


class _NoBar:
    def advance(self, steps: int) -> None:
        pass


@contextmanager
def _progress(total: int) -> Iterator[_Bar]:
    """A bar on a terminal, nothing elsewhere: rich would print its last line into a pipe."""
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)

        class Bar:
            def advance(self, steps: int) -> None:
                progress.advance(task, steps)

        yield Bar()
