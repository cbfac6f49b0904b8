"""`wait`: until jobs have ended. It owns the exit status of several jobs; it cancels nothing."""

from typing import TYPE_CHECKING, Any

import click

from queued_runner.cli.exit_status import ending, exit_status
from queued_runner.cli.job_arguments import group_instead, jobs_argument, resolve
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.progress import progress_bar
from queued_runner.cli.selectors import Selector

if TYPE_CHECKING:
    from queued_runner.client.api import Client

MAX_NAMED = 20
"""Failures that are told one by one."""


@click.command()
@server_options
@option("--group", "-g", help="All jobs of this group.")
@json_option
@jobs_argument
@click.pass_context
def wait(
    ctx: click.Context,
    connect: Connect,
    group: str | None,
    as_json: bool,
    selectors: tuple[Selector, ...],
) -> None:
    """Wait until jobs have ended.

    For one ID the exit status is the job's; for several 0 if all succeeded, else 1.
    """
    group = group_instead(ctx, selectors, group)
    with connect() as client:
        jobs = _of_group(client, group) if group else dict.fromkeys(resolve(client, selectors))
        ended = _wait(client, jobs)
    if as_json:
        print_json(ended)
    status = _tell(ended)
    if len(selectors) == 1 and selectors[0].is_single:
        status = exit_status(ended[0])
    ctx.exit(status)


def _tell(ended: list[dict[str, Any]]) -> int:
    """Name the jobs that did not succeed; 1 if there are any."""
    failures = [job for job in ended if job["state"] != "succeeded"]
    for job in failures[:MAX_NAMED]:
        say(f"job {job['id']} {ending(job)}")
    if len(failures) > MAX_NAMED:
        say(f"and {len(failures) - MAX_NAMED} more did not succeed")
    return 1 if failures else 0


def _of_group(client: "Client", group: str) -> dict[int, dict[str, Any] | None]:
    """The jobs of a group, the oldest first: each with its end, if it has one."""
    from queued_runner.client.api import is_terminal
    from queued_runner.client.errors import ClientError

    found = sorted(client.jobs(group=group), key=lambda job: int(job["id"]))
    if not found:
        raise ClientError(f"There is no job in the group {group!r}; 'queued-runner ps' lists them.")
    return {job["id"]: job if is_terminal(job) else None for job in found}


def _wait(client: "Client", jobs: dict[int, dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The same jobs, in the same order, once all of them have ended."""
    ended = {job_id: job for job_id, job in jobs.items() if job is not None}
    with progress_bar(len(jobs), len(ended)) as advance:
        for job in client.wait_each([job_id for job_id in jobs if job_id not in ended]):
            ended[job["id"]] = job
            advance()
    return [ended[job_id] for job_id in jobs]
