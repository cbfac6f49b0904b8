"""`logs`: the output of a job, as it was written; with `-f` until the job ends."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from queued_runner.cli.job_arguments import job_argument, resolve
from queued_runner.cli.options import Connect, option, say, server_options
from queued_runner.cli.output import ByteSink, dropped
from queued_runner.cli.selectors import Selector
from queued_runner.cli.timestamps import Timestamps

if TYPE_CHECKING:
    from queued_runner.client.api import Chunk, Client


EPILOG = """\b
Examples:
  queued-runner logs 17
  queued-runner logs -f last
  queued-runner logs 17 --tail 20 --timestamps --stderr
"""


@click.command(epilog=EPILOG)
@server_options
@option("--follow", "-f", is_flag=True, help="Stay until the job ends.")
@option("--stdout", "only_stdout", is_flag=True, help="Only the standard output.")
@option("--stderr", "only_stderr", is_flag=True, help="Only the standard error.")
@option("--tail", type=click.IntRange(0, 100_000), help="Begin with so many last lines.")
@option("--offset", type=click.IntRange(min=0), default=0, help="Begin at this byte.")
@option("--attempt", type=click.IntRange(min=1), help="Only this attempt; default: the newest.")
@option("--timestamps", "-t", is_flag=True, help="Each line's time (UTC) before it.")
@job_argument
def logs(
    connect: Connect,
    follow: bool,
    only_stdout: bool,
    only_stderr: bool,
    tail: int | None,
    offset: int,
    attempt: int | None,
    timestamps: bool,
    selector: Selector,
) -> None:
    """The output of a job: its stdout on stdout, its stderr on stderr."""
    only = None
    if only_stdout != only_stderr:
        only = "stdout" if only_stdout else "stderr"
    sink = ByteSink()
    stamps = Timestamps()
    with connect() as client:
        (job_id,) = resolve(client, [selector])
        number = attempt or max(client.job(job_id)["attempt"], 1)
        if tail is not None:
            offset = client.tail_offset(
                job_id, attempt=number, lines=tail, stream=only, offset=offset
            )
        if follow and attempt is None:
            chunks = _until_the_job_ends(client, job_id, number, offset)
        else:
            chunks = client.output(job_id, attempt=number, offset=offset, follow=follow)
        for chunk in chunks:
            if only in (None, chunk.stream):
                data = chunk.data
                if timestamps:
                    data = stamps.stamp(chunk.stream, chunk.at_ms, data)
                sink.write(chunk.stream, data)
        missing = _dropped(client, job_id, None if follow and attempt is None else number)
    if missing:
        say(dropped(missing))


def _dropped(client: "Client", job_id: int, attempt: int | None) -> int:
    """Bytes that are missing from the output of an attempt; None: of the newest."""
    tries = client.attempts(job_id)
    return next(
        (
            int(each["log_dropped"])
            for each in reversed(tries)
            if attempt in (None, each["attempt"])
        ),
        0,
    )


def _until_the_job_ends(
    client: "Client", job_id: int, attempt: int, offset: int
) -> Iterator["Chunk"]:
    from queued_runner.client.api import Chunk

    for item in client.follow(job_id, attempt=attempt, offset=offset):
        if isinstance(item, Chunk):
            yield item
