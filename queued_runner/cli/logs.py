"""`logs`: the output of a job, as it was written; with `-f` until the job ends."""

import click

from queued_runner.cli.options import open_client, option, server_options
from queued_runner.cli.output import ByteSink
from queued_runner.cli.selectors import SELECTOR, Selector, resolve_one
from queued_runner.client import Chunk


@click.command()
@server_options
@option("--follow", "-f", is_flag=True, help="Stay until the job ends.")
@option("--stdout", "only_stdout", is_flag=True, help="Only the standard output.")
@option("--stderr", "only_stderr", is_flag=True, help="Only the standard error.")
@option("--offset", type=click.IntRange(min=0), default=0, help="Begin at this byte.")
@option("--attempt", type=click.IntRange(min=1), help="Of this attempt; default: the newest.")
@click.argument("selector", metavar="ID", type=SELECTOR)
def logs(
    url: str | None,
    token_file: str | None,
    data_dir: str | None,
    follow: bool,
    only_stdout: bool,
    only_stderr: bool,
    offset: int,
    attempt: int | None,
    selector: Selector,
) -> None:
    """The output of a job: its stdout on stdout, its stderr on stderr."""
    only = None
    if only_stdout != only_stderr:
        only = "stdout" if only_stdout else "stderr"
    sink = ByteSink()
    with open_client(url=url, token_file=token_file, data_dir=data_dir) as client:
        job_id = resolve_one(client, selector)
        if attempt is None:
            attempt = max(client.job(job_id)["attempt"], 1)
        if not follow:
            if only is not None:
                for data in client.log(job_id, attempt=attempt, stream=only, offset=offset):
                    sink.write(only, data)
            else:
                for chunk in client.replay(job_id, attempt=attempt, offset=offset):
                    sink.write(chunk.stream, chunk.data)
            return
        for item in client.follow(job_id, attempt=attempt, offset=offset):
            if isinstance(item, Chunk) and only in (None, item.stream):
                sink.write(item.stream, item.data)
