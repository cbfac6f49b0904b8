"""`retry`: queue jobs that have ended once more, those before others that others come after.

It owns which jobs of a group are meant, and their order. It waits for nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Final

import click

from queued_runner.cli.job_arguments import group_instead, jobs_argument, resolve
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.selectors import Selector

if TYPE_CHECKING:
    from queued_runner.client.api import Client

MANY: Final = 20
"""Jobs from which on it is said how many they were: of fewer one knows it."""

EPILOG = """\b
Examples:
  queued-runner retry 17                    one job, however it ended
  queued-runner retry --group nightly       all of a group that did not succeed
  queued-runner retry --group nightly --failed      and were not cancelled
"""


@click.command(epilog=EPILOG)
@server_options
@option("--group", "-g", help="All jobs of this group that did not succeed.")
@option("--failed", is_flag=True, help="Only those that failed, not those that were cancelled.")
@json_option
@jobs_argument
@click.pass_context
def retry(
    ctx: click.Context,
    connect: Connect,
    group: str | None,
    failed: bool,
    as_json: bool,
    selectors: tuple[Selector, ...],
) -> None:
    """Queue jobs that have ended once more, with all their retries; output so far stays.

    A job waits for what it comes after; it fails at once where that has failed. `all` are those
    that failed or were cancelled.
    """
    from queued_runner.client.errors import Refused

    group = group_instead(ctx, selectors, group)
    jobs = []
    status = 0
    with connect() as client:
        chosen: list[Mapping[str, Any]] = _unsuccessful(client, group) if group else []
        for selector in selectors if not group else ():
            if selector.word == "all":  # here those that a retry is for
                chosen += _unsuccessful(client)
                continue
            for job_id in resolve(client, [selector]):
                try:
                    chosen.append(client.job(job_id))
                except Refused as error:
                    if error.status != 404:
                        raise
                    say(str(error))
                    status = error.exit_code
        if failed:
            chosen = [job for job in chosen if job["state"] == "failed"]
        if group and not chosen:
            say(f"there is no job to retry in the group {group!r}")
        for job_id in _in_order(chosen):
            try:
                jobs.append(client.retry_job(job_id))
            except Refused as error:
                if error.status not in (404, 409):
                    raise
                say(str(error))  # the others shall run none the less
                status = error.exit_code
    for job in jobs:
        if job["state"] == "failed":
            say(f"job {job['id']} failed again: what it comes after did not succeed")
    if len(jobs) > MANY:
        say(f"{len(jobs):,} jobs are queued once more")
    if as_json:
        print_json(jobs)
    ctx.exit(status)


def _unsuccessful(client: "Client", group: str | None = None) -> list[Mapping[str, Any]]:
    return [
        job for state in ("failed", "cancelled") for job in client.jobs(group=group, state=state)
    ]


def _in_order(jobs: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Their ids: each behind those that it comes after, of others the smaller one first."""
    chosen = {job["id"] for job in jobs}
    order = TopologicalSorter({job["id"]: chosen.intersection(job["after"]) for job in jobs})
    order.prepare()
    while order:
        ready = sorted(order.get_ready())
        yield from ready
        order.done(*ready)
