"""`explain`: why a job stands where it stands. The server knows why; it is printed here."""

import click

from queued_runner.cli.job_arguments import job_argument, resolve
from queued_runner.cli.options import Connect, json_option, server_options
from queued_runner.cli.output import print_json, printable
from queued_runner.cli.selectors import Selector

MAX_WORKERS = 50
"""Workers that are told of one by one."""


EPILOG = """\b
Examples:
  queued-runner explain last
  queued-runner explain 17 --json | jq .reason
"""


@click.command(epilog=EPILOG)
@server_options
@json_option
@job_argument
def explain(connect: Connect, as_json: bool, selector: Selector) -> None:
    """Say why a job is pending, or how it stands, in a sentence.

    Where labels or slots are the cause, a line for each worker says why it does not get the job.
    """
    with connect() as client:
        (job_id,) = resolve(client, [selector])
        explanation = client.explain(job_id)
    if as_json:
        print_json(explanation)
        return
    click.echo(f"job {explanation['id']}: {printable(explanation['reason'])}")
    workers = explanation["workers"]
    for worker in workers[:MAX_WORKERS]:
        click.echo(f"  {printable(worker['name'])}: {printable(worker['why'])}")
    if len(workers) > MAX_WORKERS:
        click.echo(f"  and {len(workers) - MAX_WORKERS} more workers; --json tells of all")
