"""`prune`: delete jobs that ended long ago. What is old enough is the server's to say."""

import click

from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.values import DURATION

EPILOG = """\b
Example:
  queued-runner prune --older-than 7d --keep-failed
"""


@click.command(epilog=EPILOG)
@server_options
@option("--older-than", type=DURATION, required=True, help="Jobs that ended so long ago; 0: all.")
@option(
    "--keep-failed",
    envvar="DUPLEX_RUNNER_PRUNE_KEEP_FAILED",  # without PRUNE it is a time, of `serve`
    is_flag=True,
    help="Only jobs that succeeded.",
)
@json_option
def prune(connect: Connect, older_than: float, keep_failed: bool, as_json: bool) -> None:
    """Delete jobs that ended long ago, with their output."""
    with connect() as client:
        count = client.prune(older_than, keep_failed=keep_failed)
    if as_json:
        print_json({"deleted": count})
    else:
        say(f"deleted {count} job{'' if count == 1 else 's'}")
