"""`wait`: until jobs have ended. It owns the exit status of several jobs; it cancels nothing."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from queued_runner.cli.exit_status import ending, exit_status
from queued_runner.cli.job_arguments import group_instead, jobs_argument, resolve
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import write_json_list
from queued_runner.cli.progress import progress_of
from queued_runner.cli.selectors import Selector

if TYPE_CHECKING:
    from queued_runner.client.api import Client

_NOT_WELL = ("failed", "cancelled")

MAX_NAMED = 20
"""Failures that are told one by one."""


EPILOG = """\b
Examples:
  queued-runner wait 17
  queued-runner wait --group nightly
  queued-runner wait $(queued-runner submit --array 0-9 -- true)
"""


@click.command(epilog=EPILOG)
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
    from queued_runner.client.waiting import Waiting

    group = group_instead(ctx, selectors, group)
    with connect() as client:
        ends = _Ends(keeps_all=as_json)
        if group is not None:
            job_ids, pending = _of_group(client, group, ends)
        else:
            job_ids = pending = resolve(client, selectors)
        with progress_of(len(job_ids)) as show:
            waiting = Waiting(client, pending, group=group)
            show(ends.count, ends.kinds(0))
            for ended in waiting.rounds():
                ends.add(ended)
                show(ends.count, ends.kinds(waiting.running))
    if as_json:
        write_json_list(ends.jobs[job_id] for job_id in job_ids)
    ends.tell(job_ids)
    status = 1 if ends.failures else 0
    if len(selectors) == 1 and selectors[0].is_single:
        status = ends.last_status
    ctx.exit(status)


class _Ends:
    """How jobs have ended: no more of each than is needed, for there may be very many."""

    def __init__(self, *, keeps_all: bool) -> None:
        self.count = 0
        self.failures: dict[int, str] = {}
        self.jobs: dict[int, dict[str, Any]] = {}
        self.last_status = 0
        self._keeps_all = keeps_all
        self._states: Counter[str] = Counter()

    def add(self, jobs: Iterable[dict[str, Any]]) -> None:
        for job in jobs:
            self.count += 1
            self._states[job["state"]] += 1
            self.last_status = exit_status(job)
            if job["state"] != "succeeded":
                self.failures[job["id"]] = ending(job)
            if self._keeps_all:
                self.jobs[job["id"]] = job

    def kinds(self, running: int) -> dict[str, int]:
        """What a person wants to know while waiting: all is well, or it is not."""
        return {"running": running, **{state: self._states[state] for state in _NOT_WELL}}

    def tell(self, job_ids: Iterable[int]) -> None:
        """Name the jobs that did not succeed, in this order."""
        failures = (job_id for job_id in job_ids if job_id in self.failures)
        for job_id in islice(failures, MAX_NAMED):
            say(f"job {job_id} {self.failures[job_id]}")
        if len(self.failures) > MAX_NAMED:
            say(f"and {len(self.failures) - MAX_NAMED:,} more did not succeed")


def _of_group(client: "Client", group: str, ends: _Ends) -> tuple[list[int], list[int]]:
    """The jobs of a group, the oldest first, and those that have not ended; the others' ends go to
    `ends`.
    """
    from queued_runner.client.api import is_terminal
    from queued_runner.client.errors import ClientError

    found: list[int] = []
    pending: list[int] = []
    for job in client.jobs(group=group):
        found.append(int(job["id"]))
        if is_terminal(job):
            ends.add([job])
        else:
            pending.append(job["id"])
    if not found:
        raise ClientError(f"There is no job in the group {group!r}; 'queued-runner ps' lists them.")
    return found[::-1], pending
