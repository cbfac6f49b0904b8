"""`run`: queue a command and stay until it ends, as if it ran here.

The output passes through byte by byte; the exit status is the job's. When the output cannot be
written any more the job is cancelled: a command that ran here would now get SIGPIPE.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from queued_runner.cli.exit_status import ending, exit_status
from queued_runner.cli.interrupt import cancelling_on_interrupt
from queued_runner.cli.job_arguments import with_after
from queued_runner.cli.job_options import PASS_ON, job_json, job_options
from queued_runner.cli.options import Connect, say, server_options
from queued_runner.cli.output import ByteSink, dropped
from queued_runner.cli.status_line import status_line

if TYPE_CHECKING:
    from queued_runner.client.api import Client


EPILOG = """\b
Examples:
  queued-runner run -- echo hello
  queued-runner run --shell --timeout 10m --needs os=linux -- 'uname | wc -c'
"""


@click.command(context_settings=PASS_ON, epilog=EPILOG)
@server_options
@job_options
@click.pass_context
def run(ctx: click.Context, /, connect: Connect, **job: Any) -> None:
    """Queue a command and stay until it ends.

    Its output comes out here, live and byte-exact, and its exit status is ours. Ctrl-C or SIGTERM
    cancels it; a second Ctrl-C leaves at once.
    """
    spec = job_json(**job)
    with connect() as client, cancelling_on_interrupt(connect) as watch_over:
        job_id = client.submit(with_after(client, spec))
        watch_over(job_id)
        try:
            with status_line(connect, job_id) as end_line:
                outcome = _pass_through(client, job_id, end_line)
        except OSError:  # a closed pipe, a terminal that is gone, a full disk
            client.cancel(job_id)
            raise
    if outcome["log_dropped"]:
        say(dropped(outcome["log_dropped"]))
    status = exit_status(outcome)
    if status and outcome["reason"] not in ("exit", "spawn-error"):  # the latter's output says it
        say(f"job {job_id} {ending(outcome)}")
    ctx.exit(status)


def _pass_through(client: "Client", job_id: int, on_output: Callable[[], None]) -> dict[str, Any]:
    """The output of a job, as it comes; then the job."""
    from queued_runner.client.api import Chunk

    sink = ByteSink()
    outcome: dict[str, Any] = {}
    attempt = 1
    for item in client.follow(job_id):
        on_output()
        if isinstance(item, Chunk):
            if item.attempt != attempt:
                attempt = item.attempt
                say(f"attempt {attempt} of job {job_id} begins, after what another one printed")
            sink.write(item.stream, item.data)
        else:
            outcome = item
    return outcome
