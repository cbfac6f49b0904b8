"""`cancel`: ask for the end of jobs. A job is over when its state says so; `wait` tells."""

from collections.abc import Mapping
from typing import Any

import click

from queued_runner.cli.exit_status import ending
from queued_runner.cli.job_arguments import group_instead, jobs_argument, resolve, unfinished
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.selectors import Selector
from queued_runner.cli.values import DURATION, SIGNAL


@click.command()
@server_options
@option("--group", "-g", help="All jobs of this group that have not ended.")
@option("--signal", type=SIGNAL, help="First signal; default: the job's own, SIGTERM.")
@option("--grace", type=DURATION, help="Time until SIGKILL; default: the job's own.")
@json_option
@jobs_argument
@click.pass_context
def cancel(
    ctx: click.Context,
    connect: Connect,
    group: str | None,
    signal: str | None,
    grace: float | None,
    as_json: bool,
    selectors: tuple[Selector, ...],
) -> None:
    """End jobs: queued ones at once, running ones with a signal to their whole process tree."""
    from queued_runner.client.api import is_terminal
    from queued_runner.client.errors import Refused

    group = group_instead(ctx, selectors, group)
    jobs = []
    status = 0
    with connect() as client:
        for job_id in unfinished(client, group) if group else resolve(client, selectors):
            try:
                job = client.job(job_id)
                if is_terminal(job):
                    say(f"job {job_id} has already {_ending(job)}")
                else:
                    job = client.cancel(job_id, signal=signal, grace=grace)
                jobs.append(job)
            except Refused as error:
                if error.status != 404:
                    raise
                say(str(error))  # the others shall end none the less
                status = error.exit_code
    if as_json:
        print_json(jobs)
    ctx.exit(status)


def _ending(job: Mapping[str, Any]) -> str:
    return "been cancelled" if job["state"] == "cancelled" else ending(job)
