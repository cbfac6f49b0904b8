"""`cancel`: ask for the end of jobs. A job is over when its state says so; `wait` tells."""

from typing import Final

import click

from queued_runner.cli.exit_status import ending
from queued_runner.cli.job_arguments import group_instead, jobs_argument, resolve, unfinished
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import write_json_list
from queued_runner.cli.selectors import Selector
from queued_runner.cli.values import DURATION, SIGNAL

MAX_NAMED: Final = 20
"""Jobs of one kind that are told one by one."""

EPILOG = """\b
Examples:
  queued-runner cancel 17
  queued-runner cancel 3,5-8 --signal INT --grace 30s
  queued-runner cancel --group nightly
"""


@click.command(epilog=EPILOG)
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
    from queued_runner.client.errors import ClientError

    group = group_instead(ctx, selectors, group)
    with connect() as client:
        job_ids = unfinished(client, group) if group else resolve(client, selectors)
        status = ended = 0
        jobs = []
        if group and not job_ids:
            say(f"there is no job to cancel in the group {group!r}")
        for cancelled, missing in client.cancel_many(job_ids, signal=signal, grace=grace):
            too_late = [job for job in cancelled if job["state"] in ("succeeded", "failed")]
            _tell([f"job {job['id']} has already {ending(job)}" for job in too_late])
            _tell([f"There is no job {job_id}; see 'queued-runner ps'." for job_id in missing])
            ended += len(cancelled) - len(too_late)
            if missing:
                status = ClientError.exit_code
            if as_json:
                jobs += cancelled
    if ended > MAX_NAMED:
        say(f"{ended:,} jobs are cancelled, or are to end")
    if as_json:
        write_json_list(jobs)
    ctx.exit(status)


def _tell(lines: list[str]) -> None:
    for line in lines[:MAX_NAMED]:
        say(line)
    if len(lines) > MAX_NAMED:
        say(f"and the same of {len(lines) - MAX_NAMED:,} more")
