"""`ps`, `show`, `workers`: look at what there is. They change nothing."""

from typing import Any

import click

from queued_runner.cli.exit_status import ending
from queued_runner.cli.job_arguments import job_argument, resolve
from queued_runner.cli.options import Connect, json_option, option, say, server_options
from queued_runner.cli.output import (
    age,
    coloured_state,
    command_line,
    print_json,
    print_table,
    printable,
)
from queued_runner.cli.selectors import Selector

STATES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.command()
@server_options
@option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@option("--group", "-g", help="Only jobs of this group.")
@option("--name", help="Only jobs of this name.")
@option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="At most so many, the newest.",
)
@json_option
def ps(
    connect: Connect,
    state: str | None,
    group: str | None,
    name: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, the newest first."""
    with connect() as client:
        jobs = list(client.jobs(state=state, group=group, name=name, limit=limit))
    if as_json:
        print_json(jobs)
        return
    rows = [
        [
            str(job["id"]),
            coloured_state(job["state"]),
            str(job["attempt"]),
            age(job["created_at"]),
            printable(job["worker"] or "-"),
            printable(job["group"] or "-"),
            printable(job["name"] or "") or command_line(job),
        ]
        for job in jobs
    ]
    print_table(("ID", "STATE", "ATTEMPT", "AGE", "WORKER", "GROUP", "JOB"), rows)


@click.command()
@server_options
@json_option
@job_argument
def show(connect: Connect, as_json: bool, selector: Selector) -> None:
    """Everything known of a job, its attempts included."""
    from queued_runner.client.results import list_left_out, list_results

    with connect() as client:
        (job_id,) = resolve(client, [selector])
        job = client.job(job_id)
        attempts = client.attempts(job_id)
        files, left_out = list_results(client, job_id, None)
        missing = list_left_out(client, job_id, None) if left_out else []
    if as_json:
        print_json({**job, "attempts": attempts, "results": files, "results_left_out": missing})
        return
    click.echo(f"job {job['id']}  {coloured_state(job['state'])}  {command_line(job)}")
    if job["pending_reason"]:
        click.echo(f"  waits: {printable(job['pending_reason'])}")
    for field, value in job.items():
        if field not in ("id", "state", "command", "args", "pending_reason") and value not in (
            None,
            {},
            [],
            False,
        ):
            click.echo(f"  {field}: {_plain(value)}")
    for attempt in attempts:
        how = ending({**attempt, "state": "failed"}) if attempt["reason"] else "under way"
        if attempt["reason"] == "exit" and attempt["exit_code"] == 0:
            how = "succeeded"
        click.echo(
            f"  attempt {attempt['attempt']}: {how} at {printable(attempt['worker'] or '-')},"
            f" started {attempt['started_at']}, {attempt['log_bytes']} bytes of output"
        )
    if files:
        size = sum(file["size"] for file in files)
        click.echo(
            f"  results: {len(files)} with {size} bytes; fetch them with: results {job_id} -o"
        )
    for item in missing:
        click.echo(
            f"  left out of the results: {printable(item['name'])}: {printable(item['why'])}"
        )
    if left_out > len(missing):
        click.echo(f"  left out of the results: {left_out - len(missing)} more")


@click.command()
@server_options
@json_option
def workers(connect: Connect, as_json: bool) -> None:
    """List the connected workers."""
    with connect() as client:
        found = client.workers()
    if as_json:
        print_json(found)
        return
    rows = [
        [
            printable(worker["name"]),
            worker["state"],
            f"{worker['slots'] - worker['free']}/{worker['slots']}",
            printable(worker["address"]),
            printable(worker["version"]),
            printable(" ".join(f"{key}={value}" for key, value in worker["labels"].items())),
        ]
        for worker in found
    ]
    print_table(("NAME", "STATE", "BUSY", "ADDRESS", "VERSION", "LABELS"), rows)
    if not found:
        say("no worker is connected; start one with: simple-worker")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return printable(" ".join(f"{key}={item}" for key, item in value.items()))
    if isinstance(value, list):
        return printable(" ".join(map(str, value)))
    return printable(str(value))
