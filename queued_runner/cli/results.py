"""`results`: the files that a job left, as a list, or fetched into a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from queued_runner.cli.job_arguments import job_argument, resolve
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import print_json, printable
from queued_runner.cli.selectors import Selector
from queued_runner.cli.tables import print_table, table
from queued_runner.cli.wording import size

if TYPE_CHECKING:
    from queued_runner.client.api import Client, Json

EPILOG = """\b
Examples:
  queued-runner results last
  queued-runner results 17 -o reports
"""


@click.command(epilog=EPILOG)
@server_options
@option(
    "--output-dir", "-o", "folder", type=click.Path(file_okay=False, path_type=Path),
    help="Fetch them into this folder.",
)  # fmt: skip
@option("--attempt", type=click.IntRange(min=1), help="Of this attempt; default: the newest.")
@json_option
@job_argument
def results(
    connect: Connect, folder: Path | None, attempt: int | None, as_json: bool, selector: Selector
) -> None:
    """The files that a job left in $JOB_SCRATCH/results: a list, or with -o the files."""
    from queued_runner.client.results import fetch_result, list_results

    with connect() as client:
        (job_id,) = resolve(client, [selector])
        job = client.job(job_id)
        number = attempt or max(job["attempt"], 1)
        files, left_out = list_results(client, job_id, number)
        if folder is not None:
            for file in files:
                path = fetch_result(client, job_id, number, file["name"], folder)
                file["path"] = str(path)
        if as_json:
            print_json(files)
        else:
            _print(files, is_fetched=folder is not None)
        if not files and job["finished_at"] is None and number == max(job["attempt"], 1):
            say(f"job {job_id} has not ended; its results come with its end")
        elif not files and not left_out:
            say(
                f"no results came of attempt {number} of job {job_id}; a worker that pulls over"
                " HTTP sends none"
            )
        if left_out:
            _say_left_out(client, job_id, number, left_out)


def _print(files: "list[Json]", *, is_fetched: bool) -> None:
    if is_fetched:
        for file in files:
            click.echo(file["path"])
    elif files:
        rows = [[size(file["size"]), printable(file["name"])] for file in files]
        print_table(table(("SIZE", "NAME"), rows, right=("SIZE",)))


def _say_left_out(client: "Client", job_id: int, attempt: int, count: int) -> None:
    from queued_runner.client.results import list_left_out

    named = list_left_out(client, job_id, attempt)
    for item in named:
        say(f"left out: {printable(item['name'])}: {printable(item['why'])}")
    if count > len(named):
        say(f"left out: {count - len(named):,} more")
