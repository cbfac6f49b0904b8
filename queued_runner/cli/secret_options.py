"""The options that give a job its secrets, and what they add to its JSON.

It owns that no value of a secret is in a message, and that none needs to stand in a command line,
where others see it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from queued_runner.cli.options import option
from queued_runner.cli.small_file import read_small

F = TypeVar("F", bound=Callable[..., Any])


class Secret(click.ParamType):  # type: ignore[type-arg]
    """Text; several of them in an environment variable stand on a line each."""

    name = "value"
    envvar_list_splitter = "\n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        return str(value)


def secret_options(command: F) -> F:
    """Add `--mask`, `--mask-file` and `--secret-env`."""
    for decorate in reversed(
        (
            option(
                "--secret-env",
                metavar="NAME",
                multiple=True,
                help="Give the job this variable of ours, and hide its value; repeatable.",
            ),
            option(
                "--mask-file",
                type=click.Path(exists=True, dir_okay=False),
                help="File of texts to hide, one a line.",
            ),
            option(
                "--mask",
                type=Secret(),
                multiple=True,
                help="Text to hide in output and wherever the job is shown. Others on this machine"
                " can see command lines: rather use one of the two above.",
            ),
        )
    ):
        command = decorate(command)
    return command


def add_secrets(
    spec: dict[str, Any], mask: Sequence[str], mask_file: str | None, secret_env: Sequence[str]
) -> None:
    """Add the secrets, and the variables that hold some, to the JSON of a job.

    Raises:
        click.UsageError: a variable is not set here, or a value cannot be hidden.
    """
    secrets = [secret for secret in mask if secret.strip()]
    if mask_file is not None:
        secrets += _lines(mask_file)
    for name in secret_env:
        value = _variable(name)
        env = spec.setdefault("env", {})
        if env.get(name, value) != value:
            raise click.UsageError(f"--env and --secret-env both give {name}; give it once.")
        env[name] = value
        secrets.append(value)
    if secrets:
        spec["mask"] = list(dict.fromkeys(secrets))


def _variable(name: str) -> str:
    from remote_runner.mask import MIN_SECRET

    name, equals, _ = name.partition("=")
    if equals or not name:
        raise click.UsageError(
            "--secret-env takes the name of a variable alone; its value is taken from the"
            " environment, so that nobody sees it in a command line."
        )
    value = os.environ.get(name)
    if value is None:
        raise click.UsageError(f"--secret-env {name}: there is no such variable; export it first.")
    if len(value.strip().encode("utf-8", "replace")) < MIN_SECRET:
        raise click.UsageError(
            f"--secret-env {name}: its value has less than {MIN_SECRET} bytes, which cannot be"
            " hidden; use a longer secret, or --env for what is none."
        )
    return value


def _lines(path: str) -> list[str]:
    from remote_runner.mask import MAX_SECRETS_SIZE

    most = 2 * MAX_SECRETS_SIZE  # it may have empty lines
    data = read_small("--mask-file", path, most, "hide the parts that tell something")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"--mask-file {path}: it is not UTF-8 text.") from None
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
