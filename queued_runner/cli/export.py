"""`export`: a queue at rest as lines of JSON. What they are stands in `queued_runner.transfer`."""

import sys
from pathlib import Path

import click

from queued_runner.cli.options import option, say
from queued_runner.cli.store_options import (
    data_dir_option,
    ending_well,
    logs_option,
    settings_of,
    store_option,
)

EPILOG = """\b
Examples:
  queued-runner export --data-dir state -o queue.jsonl
  queued-runner export --data-dir state | gzip > queue.jsonl.gz
"""


@click.command(epilog=EPILOG)
@data_dir_option
@store_option
@logs_option
@option(
    "--output", "-o", "path", type=click.Path(path_type=Path),
    help="Write this file, which only you may read; by default stdout.",
)  # fmt: skip
def export(
    data_dir: Path | None, store: str | None, logs: Path | str | None, path: Path | None
) -> None:
    """Write all of a queue as lines of JSON: jobs, output and results. No server may run on it.

    The secrets of jobs (--mask, --secret-env, their environments) are in it as they are: keep it as
    you keep them.
    """
    with ending_well():
        from queued_runner.output_places import output_at_rest
        from queued_runner.stores import opened_at_rest
        from queued_runner.transfer.export import export_queue
        from queued_runner.transfer.files import replaced

        settings = settings_of(data_dir, store, logs)
        with opened_at_rest(settings, is_new=False) as queue, output_at_rest(settings) as place:
            if path is None:
                done = export_queue(queue, place, sys.stdout.buffer.write)
                sys.stdout.buffer.flush()
            else:
                with replaced(path) as file:
                    done = export_queue(queue, place, file.write)
        jobs = f"{done.jobs} job{'' if done.jobs == 1 else 's'}"
        say(f"exported {jobs} from {queue.place}")
        if done.missing:
            say(
                f"of {done.missing} attempts the output or results are not, or not all, in"
                f" {place.shown}; their jobs are exported without"
            )
