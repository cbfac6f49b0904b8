"""`submit`: queue a command and print its id. It does not wait for anything."""

from typing import Any

import click

from queued_runner.cli.job_arguments import with_after
from queued_runner.cli.job_options import PASS_ON, job_json, job_options
from queued_runner.cli.options import Connect, json_option, server_options
from queued_runner.cli.output import print_json


@click.command(context_settings=PASS_ON)
@server_options
@json_option
@job_options
def submit(connect: Connect, as_json: bool, **job: Any) -> None:
    """Queue a command and print its id.

    Options come before the command; everything after it belongs to it.
    """
    spec = job_json(**job)
    with connect() as client:
        job_id = client.submit(with_after(client, spec))
    if as_json:
        print_json({"id": job_id})
    else:
        click.echo(job_id)
