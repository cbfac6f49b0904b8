"""The options that describe a job, for `submit` and `run`, and the JSON they become.

It owns the names of these options. What is not given is not sent: the server's defaults hold.
It validates nothing that the server validates.
"""

import base64
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from queued_runner.cli.job_arguments import AFTER
from queued_runner.cli.options import option
from queued_runner.cli.secret_options import add_secrets, secret_options
from queued_runner.cli.small_file import read_small
from queued_runner.cli.values import DURATION, PAIR, SIZE

F = TypeVar("F", bound=Callable[..., Any])

Job = dict[str, Any]

MAX_STDIN: Final = 4 * 1024 * 1024
"""Bytes. As the server has it, whose module takes long to import."""
PASS_ON = {"allow_interspersed_args": False}
"""Everything from the command on is the command's own, `-n` too, with or without `--`."""


def job_options(command: F) -> F:
    """Add the options of a job, and its command line as `command`."""
    for decorate in reversed(
        (
            option("--name", help="A name for people."),
            option("--group", "-g", help="Jobs that are looked at together."),
            option("--key", help="The same key again gives the same job."),
            option("--cwd", metavar="DIR", help="Directory at the worker; default: the worker's."),
            option("--env", "-e", type=PAIR, multiple=True, help="A variable; may be repeated."),
            option("--shell", is_flag=True, help="Run the command line through /bin/sh."),
            option(
                "--stdin",
                type=click.Path(exists=True, dir_okay=False, allow_dash=True),
                help="File whose content is the input of the job, 4 MiB at most; - for this input.",
            ),
            option("--priority", type=int, help="Higher comes first; default 0."),
            option("--timeout", type=DURATION, help="End the attempt after this time."),
            option("--retries", type=click.IntRange(min=0), help="Further attempts on failure."),
            option("--backoff", type=DURATION, help="Pause before the first retry; it doubles."),
            option(
                "--on-lost",
                type=click.Choice(["retry", "fail"]),
                help="When the worker is lost; default retry.",
            ),
            secret_options,
            option("--needs", type=PAIR, multiple=True, help="Label of the worker; repeatable."),
            option(
                "--slots",
                type=click.IntRange(min=1),
                help="Slots of one worker that it takes; default 1.",
            ),
            option(
                "--after",
                metavar="ID",
                type=AFTER,
                multiple=True,
                help="Start once this job has succeeded; as 17, 3,5-8, last or a key; repeatable.",
            ),
            option("--delay", type=DURATION, help="Do not start before this time has passed."),
            option("--max-log-size", type=SIZE, help="Output beyond this is dropped and counted."),
            option(
                "--max-results-size",
                type=SIZE,
                help="Files in $JOB_SCRATCH/results beyond this are left out; 0: all are.",
            ),
            click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND..."),
        )
    ):
        command = decorate(command)
    return command


def job_json(*, command: tuple[str, ...], needs_command: bool = True, **given: Any) -> Job:
    """What is sent, from the values of `job_options`.

    Raises:
        click.UsageError: there is no command, and it needs one.
    """
    if not command:
        if needs_command:
            raise click.MissingParameter(param_type="argument", param_hint="'COMMAND...'")
        return _fields(**given)
    args = {"args": list(command[1:])} if command[1:] else {}
    return {"command": command[0], **args, **_fields(**given)}


def _fields(
    *,
    env: tuple[tuple[str, str], ...],
    needs: tuple[tuple[str, str], ...],
    stdin: str | None,
    shell: bool,
    mask: tuple[str, ...],
    mask_file: str | None,
    secret_env: tuple[str, ...],
    **given: Any,
) -> Job:
    spec: Job = {}
    if env:
        spec["env"] = dict(env)
    if needs:
        spec["needs"] = dict(needs)
    if shell:
        spec["shell"] = True
    if stdin is not None:
        spec["stdin"] = _input(stdin)
    add_secrets(spec, mask, mask_file, secret_env)
    spec.update((name, value) for name, value in given.items() if value not in (None, ()))
    return spec


def _input(path: str) -> str | dict[str, str]:
    data = read_small("--stdin", path, MAX_STDIN, "put larger input in a file that the job reads")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
