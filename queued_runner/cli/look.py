"""`show`, `workers` and `servers`: look at one job, at who runs them. They change nothing."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from queued_runner.cli.exit_status import ending
from queued_runner.cli.job_arguments import job_argument, resolve
from queued_runner.cli.options import Connect, json_option, say, server_options
from queued_runner.cli.output import (
    coloured_state,
    command_line,
    dropped,
    print_json,
    printable,
)
from queued_runner.cli.selectors import Selector
from queued_runner.cli.tables import print_table, servers_table, table, workers_table
from queued_runner.cli.wording import ago, duration, size, took, why

if TYPE_CHECKING:
    from rich.table import Table

SHOW_EPILOG = """\b
Examples:
  queued-runner show 17
  queued-runner show last --json
"""

WORKERS_EPILOG = """\b
Examples:
  queued-runner workers
  queued-runner workers --json
"""

SERVERS_EPILOG = """\b
Examples:
  queued-runner servers
  queued-runner servers --json
"""

_SAID_OTHERWISE: Final = frozenset({
    "id", "state", "reason", "exit_code", "signal", "attempt", "worker", "command", "args",
    "shell", "stdin", "timeout", "kill_signal", "kill_grace", "retries", "backoff", "max_backoff",
    "created_at", "started_at", "finished_at", "duration", "log_bytes", "log_dropped",
    "cancel_requested", "pending_reason", "delay", "detach", "max_log_size", "slots",
})  # fmt: skip
"""Fields that get words of their own; all others are shown by their names."""


_DEFAULTS: Final[tuple[Any, ...]] = (None, {}, [], False, 0, "retry")
"""What says nothing of a job: `retry` is that of `on_lost`."""


@click.command(epilog=SHOW_EPILOG)
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
    now = datetime.now(UTC)
    how = ending(job).removeprefix(job["state"])
    click.echo(f"job {job['id']}  {coloured_state(job['state'])}{how}  {command_line(job)}")
    facts = list(_facts(job, now))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"  {name:<{width}}  {value}")
    if attempts:
        click.echo()
        print_table(_attempts_table(attempts, now))
        if attempts[-1]["log_dropped"]:
            say(dropped(attempts[-1]["log_dropped"]))
    _tell_results(job_id, files, missing, left_out)


def _tell_results(
    job_id: int,
    files: Sequence[Mapping[str, Any]],
    missing: Sequence[Mapping[str, Any]],
    left_out: int,
) -> None:
    if files:
        total = size(sum(file["size"] for file in files))
        click.echo(
            f"\nresults: {len(files)} with {total}; fetch them with: queued-runner results"
            f" {job_id} -o DIR"
        )
    for item in missing:
        click.echo(f"left out of the results: {printable(item['name'])}: {printable(item['why'])}")
    if left_out > len(missing):
        click.echo(f"left out of the results: {left_out - len(missing)} more")


def _facts(job: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    """What a person wants to know, in order, as names and values; no line for a default."""
    if job["pending_reason"]:
        yield "waits", printable(job["pending_reason"])
    elif reason := why(job):
        yield "why", reason
    elif job["cancel_requested"] and job["state"] == "running":
        yield "ends", "it was cancelled, and is over when its processes are gone"
    for name, value in job.items():
        if name not in _SAID_OTHERWISE and value not in _DEFAULTS:
            yield name, _plain(value)
    if job["shell"]:
        yield "shell", "/bin/sh" if job["shell"] is True else printable(job["shell"])
    if job["stdin"] is not None:
        yield "stdin", _input(job["stdin"])
    if job["slots"] > 1:
        yield "slots", f"{job['slots']} of one worker"
    if job["delay"]:
        yield "delay", duration(job["delay"])
    if job["timeout"] is not None:
        yield "timeout", duration(job["timeout"])
    if (job["kill_signal"], job["kill_grace"]) != ("SIGTERM", 10.0):
        yield "kill", f"{job['kill_signal']}, and SIGKILL after {duration(job['kill_grace'])}"
    if job["retries"]:
        pauses = f"after {duration(job['backoff'])}, then up to {duration(job['max_backoff'])}"
        yield "retries", f"{job['retries']}, {pauses}"
    if job["detach"] is not None:
        yield "detach", f"the worker may be away for {duration(job['detach'])}"
    if job["max_log_size"] is not None:
        yield "log limit", size(job["max_log_size"])
    for name, time in (("created", "created_at"), ("started", "started_at")):
        if job[time] is not None:
            yield name, f"{ago(job[time], now)}  ({job[time]})"
    if job["finished_at"] is not None:
        yield "finished", f"{ago(job['finished_at'], now)}  ({job['finished_at']})"
    if job["started_at"] is not None:
        yield "took", took(job, now)
        kept = size(job["log_bytes"])
        yield "output", f"{kept}; read it with: queued-runner logs {job['id']}"


def _attempts_table(attempts: Sequence[Mapping[str, Any]], now: datetime) -> "Table":
    heads = ("TRY", "STARTED", "TOOK", "CPU", "MEMORY", "OUTPUT", "WORKER", "END")
    rows = [
        (
            str(item["attempt"]),
            ago(item["started_at"], now),
            took(item, now),
            "-" if item["cpu_time"] is None else duration(item["cpu_time"]),
            "-" if item["max_rss"] is None else size(item["max_rss"]),
            size(item["log_bytes"]),
            item["worker"] or "-",
            _end_of(item),
        )
        for item in attempts
    ]
    return table(heads, rows, right=("TRY",), spare=("MEMORY", "CPU", "STARTED"))


def _end_of(attempt: Mapping[str, Any]) -> str:
    if attempt["reason"] is None:
        return "under way"
    if attempt["reason"] == "exit" and attempt["exit_code"] == 0:
        return "succeeded"
    if attempt["reason"] in ("refused", "given-back"):
        return f"{attempt['reason']}, before it began"
    if attempt["reason"] == "stopped":
        return "stopped with its server"
    if attempt["reason"] == "unheard":
        return "lost with its worker, before it began as it seems"
    return ending({**attempt, "state": "failed"})


@click.command(epilog=WORKERS_EPILOG)
@server_options
@json_option
def workers(connect: Connect, as_json: bool) -> None:
    """List the workers that are connected, to any server, and those that are drained and away."""
    with connect() as client:
        found = client.workers()
    if as_json:
        print_json(found)
        return
    print_table(workers_table(found))
    if not found:
        say("no worker is connected; start one with: simple-worker")


@click.command(epilog=SERVERS_EPILOG)
@server_options
@json_option
def servers(connect: Connect, as_json: bool) -> None:
    """List the servers of the queue, with what each of them has."""
    with connect() as client:
        found = client.servers()
    if as_json:
        print_json(found)
    else:
        print_table(servers_table(found))


def _input(stdin: Any) -> str:
    if isinstance(stdin, str):
        return size(len(stdin.encode()))
    return size(len(stdin["base64"]) * 3 // 4)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return printable(" ".join(f"{key}={item}" for key, item in value.items()))
    if isinstance(value, list):
        return printable(" ".join(map(str, value)))
    return printable(str(value))
