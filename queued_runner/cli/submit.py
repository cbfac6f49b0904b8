"""`submit`: queue a command and print its id. It does not wait for anything."""

from typing import Any

import click

from queued_runner.cli.job_options import PASS_ON, job_json, job_options
from queued_runner.cli.options import json_option, open_client, server_options
from queued_runner.cli.output import print_json


@click.command(context_settings=PASS_ON)
@server_options
@json_option
@job_options
def submit(
    url: str | None, token_file: str | None, data_dir: str | None, as_json: bool, **job: Any
) -> None:
    """Queue a command and print its id.

    Options come before the command; everything after it belongs to it.
    """
    spec = job_json(**job)
    with open_client(url=url, token_file=token_file, data_dir=data_dir) as client:
        job_id = client.submit(spec)
    if as_json:
        print_json({"id": job_id})
    else:
        click.echo(job_id)
