"""`migrate`: bring the tables of a queue to the newest step, as a server does when it starts."""

from pathlib import Path

import click

from queued_runner.cli.options import say
from queued_runner.cli.store_options import (
    data_dir_option,
    ending_well,
    settings_of,
    store_option,
)

EPILOG = """\b
Example, before the first server of a new release starts:
  queued-runner migrate --data-dir state
"""


@click.command(epilog=EPILOG)
@data_dir_option
@store_option
def migrate(data_dir: Path | None, store: str | None) -> None:
    """Bring the tables of a queue to what this release needs; without a server.

    A server does the same when it starts. Where there is no queue, an empty one is made.
    """
    with ending_well():
        from queued_runner.stores import opened_at_rest

        with opened_at_rest(settings_of(data_dir, store)) as queue:
            before, now = queue.steps
            if before == now:
                say(f"the queue at {queue.place} is at step {now}, the newest: nothing to do")
            else:
                say(f"the queue at {queue.place} went from step {before} to step {now}")
