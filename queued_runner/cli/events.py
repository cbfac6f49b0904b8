"""`events`: what happens to jobs and workers, one JSON object a line."""

import click

from queued_runner.cli.job_arguments import SelectorType, resolve
from queued_runner.cli.options import Connect, option, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.selectors import Selector

EPILOG = """\b
Examples:
  queued-runner events
  queued-runner events -f --group nightly
"""


@click.command(epilog=EPILOG)
@server_options
@option("--follow", "-f", is_flag=True, help="Stay for what comes; survives a server restart.")
@option("--group", "-g", help="Only those of jobs of this group.")
@option("--job", "-j", metavar="ID", type=SelectorType(single=True), help="Only those of this job.")
def events(connect: Connect, follow: bool, group: str | None, job: Selector | None) -> None:
    """What the server does with jobs and workers, the oldest first, as lines of JSON.

    Of several servers on one queue each tells its own; "server" is its name. It remembers some
    thousands of events, and none from before its start. Where some are missing a line of the event
    "gap" says so.
    """
    from queued_runner.client import events as source

    with connect() as client:
        job_id = None if job is None else resolve(client, [job])[0]
        for event in source.events(client, group=group, job=job_id, follow=follow):
            print_json(event)
