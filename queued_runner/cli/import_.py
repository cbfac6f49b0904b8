"""`import`: what `export` wrote, into a queue that is empty."""

from pathlib import Path
from typing import BinaryIO

import click

from queued_runner.cli.options import option, say
from queued_runner.cli.store_options import (
    data_dir_option,
    ending_well,
    logs_option,
    settings_of,
    store_option,
)
from queued_runner.cli.values import DURATION

EPILOG = """\b
Examples:
  queued-runner import queue.jsonl --data-dir copy
  queued-runner export --data-dir state | queued-runner import - --data-dir copy
"""


@click.command("import", epilog=EPILOG)
@data_dir_option
@store_option
@logs_option
@option(
    "--detach", default="120s", show_default=True, type=DURATION,
    help="How long the worker of a job that ran may be away: as long as its servers had said.",
)  # fmt: skip
@click.argument("file", type=click.File("rb"))
def import_(
    data_dir: Path | None, store: str | None, logs: Path | str | None, detach: float, file: BinaryIO
) -> None:
    """Fill an empty queue from FILE, or stdin (-), which `export` wrote: all of it, or nothing.

    It is the same queue then, with the same ids: workers that have jobs of it go on with them.
    Never start servers on both.
    """
    with ending_well():
        from queued_runner.output_places import output_at_rest
        from queued_runner.stores import opened_at_rest
        from queued_runner.transfer.importing import import_queue

        settings = settings_of(data_dir, store, logs)
        with opened_at_rest(settings, is_filled=True) as queue, output_at_rest(settings) as place:
            count = import_queue(queue, file, place, detach)
        say(f"imported {count} job{'' if count == 1 else 's'} into {queue.place}")
