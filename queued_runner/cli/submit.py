"""`submit`: queue a command, or many, and print their ids. It does not wait for anything."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from queued_runner.cli import series
from queued_runner.cli.interrupt import put_off_interrupt
from queued_runner.cli.job_arguments import with_after
from queued_runner.cli.job_options import PASS_ON, job_json, job_options
from queued_runner.cli.json_objects import read_objects
from queued_runner.cli.numbers import Runs, each_number, parse_numbers
from queued_runner.cli.options import Connect, F, json_option, option, say, server_options
from queued_runner.cli.output import print_json, write_json_list

if TYPE_CHECKING:
    from queued_runner.client.api import Client

FAREWELL = "left; some more jobs may have been stored: 'queued-runner ps' shows them"

EPILOG = """\b
Examples:
  queued-runner submit --name hello -- echo hello
  queued-runner wait $(queued-runner submit --array 0-9 -- sh -c 'echo $JOB_ARRAY_INDEX')
  ls | queued-runner submit --group sizes --each-line - -- du -sh {}
"""


class Indices(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers from 0, as ranges."""

    name = "indices"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[range, ...]:
        if isinstance(value, tuple):
            return value
        try:
            ranges = parse_numbers(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if ranges is None:
            self.fail(f"{value!r} is no list of indices; write 0-99, 1-10:2 or 3,5-8", param, ctx)
        return ranges


def file_option(name: str, help: str) -> Callable[[F], F]:
    """An option that names a file, or with `-` our input."""
    path = click.Path(exists=True, dir_okay=False, allow_dash=True)
    return option(name, type=path, metavar="FILE", help=help)


@click.command(context_settings=PASS_ON, epilog=EPILOG)
@server_options
@json_option
@option("--dry-run", is_flag=True, help="Print the jobs as lines of JSON; submit nothing.")
@option("--array", type=Indices(), help="A job for each: 0-99, 1-10:2; $JOB_ARRAY_INDEX tells.")
@file_option(
    "--each-line", "A job for each line, in place of {} or as last argument; empty ones are none."
)
@file_option(
    "--from-json", "Jobs: an object, a list, or one a line; the options are their defaults."
)
@job_options
def submit(
    connect: Connect,
    as_json: bool,
    dry_run: bool,
    array: tuple[range, ...] | None,
    each_line: str | None,
    from_json: str | None,
    **job: Any,
) -> None:
    """Queue a command and print its id, or many and print what names them all.

    Options come before the command; everything after it belongs to it.
    """
    _check(array, each_line, from_json, job["stdin"])
    spec = job_json(needs_command=from_json is None, **job)
    is_one = array is None and each_line is None and from_json is None
    key = None if is_one else spec.pop("key", None)
    with _series(spec, array, each_line, from_json) as jobs:
        if dry_run and not spec.get("after"):
            _print(jobs)
            return
        with connect() as client:
            spec.update(with_after(client, spec))
            if dry_run:
                _print(jobs)
            elif is_one:
                _submit_one(client, spec, as_json)
            else:
                _submit_many(client, jobs, key, as_json)


def _check(
    array: tuple[range, ...] | None, each_line: str | None, from_json: str | None, stdin: str | None
) -> None:
    if sum(source is not None for source in (array, each_line, from_json)) > 1:
        raise click.UsageError("Give one of --array, --each-line and --from-json.")
    if stdin == "-" and "-" in (each_line, from_json):
        raise click.UsageError("Two options read this input; give one of them a file.")


def _print(jobs: Iterable[series.Origin]) -> None:
    for _, job in jobs:
        print_json(job)


def _submit_one(client: "Client", spec: series.Job, as_json: bool) -> None:
    job_id = client.submit(spec)
    if as_json:
        print_json({"id": job_id})
    else:
        click.echo(job_id)


def _submit_many(
    client: "Client", jobs: Iterable[series.Origin], key: str | None, as_json: bool
) -> None:
    from queued_runner.client.batches import batches, submit_batch

    runs = Runs()
    try:
        for batch in batches(jobs, key=key):
            with put_off_interrupt("these jobs are stored first", FAREWELL):
                runs.extend(submit_batch(client, batch))
    finally:
        # What was stored before something went wrong is told too: it will run.
        if runs:
            if as_json:
                write_json_list(runs, '{"ids": ', "}\n")
            else:
                click.echo(str(runs))
    if not runs:
        say("there was nothing to submit")
        if as_json:
            print_json({"ids": []})


@contextmanager
def _series(
    spec: series.Job, array: tuple[range, ...] | None, each_line: str | None, from_json: str | None
) -> Iterator[Iterator[series.Origin]]:
    if array is not None:
        yield series.of_indices(spec, each_number(array))
    elif each_line is not None:
        with _opened(each_line) as file:
            lines = iter(lambda: file.readline(series.MAX_LINE + 1), b"")
            yield series.of_lines(spec, series.numbered_lines(lines))
    elif from_json is not None:
        with _opened(from_json) as file:
            text = io.TextIOWrapper(file, "utf-8-sig")
            yield series.of_objects(spec, read_objects(text))
            text.detach()  # the file is not its own to close
    else:
        yield iter([("it", spec)])


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        yield file
