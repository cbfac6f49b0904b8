"""`cancel`: ask for the end of jobs. A job is over when its state says so; `wait` tells."""

import click

from queued_runner.cli.options import json_option, open_client, option, server_options
from queued_runner.cli.output import print_json
from queued_runner.cli.selectors import SELECTOR, Selector, resolve
from queued_runner.cli.values import DURATION
from queued_runner.http.locate import Refused


@click.command()
@server_options
@option("--group", "-g", help="All jobs of this group that have not ended.")
@option("--signal", metavar="NAME", help="First signal; default: the job's own, SIGTERM.")
@option("--grace", type=DURATION, help="Time until SIGKILL; default: the job's own.")
@json_option
@click.argument("selectors", metavar="ID...", nargs=-1, type=SELECTOR)
@click.pass_context
def cancel(
    ctx: click.Context,
    url: str | None,
    token_file: str | None,
    data_dir: str | None,
    group: str | None,
    signal: str | None,
    grace: float | None,
    as_json: bool,
    selectors: tuple[Selector, ...],
) -> None:
    """End jobs: queued ones at once, running ones with a signal to their whole process tree."""
    if bool(selectors) == bool(group):
        raise click.UsageError("Give one or more IDs, or --group; 'queued-runner ps' lists both.")
    if signal is not None:
        signal = signal.upper() if signal.upper().startswith("SIG") else f"SIG{signal.upper()}"
    jobs = []
    status = 0
    with open_client(url=url, token_file=token_file, data_dir=data_dir) as client:
        ids = resolve(client, selectors)
        if group:
            ids = [
                job["id"]
                for state in ("queued", "running")
                for job in client.jobs(state=state, group=group)
            ]
        for job_id in ids:
            try:
                jobs.append(client.cancel(job_id, signal=signal, grace=grace))
            except Refused as error:
                if error.status != 404 or len(ids) == 1:
                    raise
                # The others shall end none the less.
                click.echo(f"queued-runner: {error}", err=True)
                status = error.exit_code
    if as_json:
        print_json(jobs)
    ctx.exit(status)
