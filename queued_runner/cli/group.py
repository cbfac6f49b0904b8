"""The group of all verbs: which there are, where they live, how their errors end the program.

It owns the lazy loading (a verb costs only its own imports), `--config`, and the way from an
exception to one line and an exit status. It knows nothing of what a verb does.
"""

import difflib
import importlib
import os
import sys
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import click

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("queued_runner.cli.serve:serve", "Run the service: queue, workers' port, API."),
    "submit": ("queued_runner.cli.submit:submit", "Queue a command and print its id."),
    "run": ("queued_runner.cli.run:run", "Queue a command and stay until it ends."),
    "ps": ("queued_runner.cli.look:ps", "List jobs, the newest first."),
    "show": ("queued_runner.cli.look:show", "Everything known of a job."),
    "logs": ("queued_runner.cli.logs:logs", "The output of a job."),
    "wait": ("queued_runner.cli.wait:wait", "Wait until jobs have ended."),
    "cancel": ("queued_runner.cli.cancel:cancel", "End jobs."),
    "workers": ("queued_runner.cli.look:workers", "List the connected workers."),
}
"""Each verb: where its command stands, and its line in the help (so that help loads nothing)."""

SIGPIPE_STATUS: Final = 141
INTERRUPTED_STATUS: Final = 130

EPILOG = """\b
Exit status of `run` and `wait ID`: the job's own 0-255; 128+n for signal n;
124 timed out; 123 worker lost; 130 cancelled; 125 no server, or refused.
\b
Shell completion: eval "$(_QUEUED_RUNNER_COMPLETE=bash_source queued-runner)"
(or zsh_source, fish_source).
"""


class VerbGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, summary) for verb, (_, summary) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verb = args[0]
        if verb not in VERBS and not verb.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(verb, VERBS, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"There is no verb {verb!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            _silence_stdout()
            ctx.exit(SIGPIPE_STATUS)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED_STATUS)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # An error that brings its status is one that a person can act on: no traceback.
            status = getattr(error, "exit_code", None)
            if not isinstance(status, int):
                raise
            click.echo(f"queued-runner: {error}", err=True)
            ctx.exit(status)


def _silence_stdout() -> None:
    """Nobody reads: what Python still wants to flush at its exit goes nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _load_config(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Defaults from a TOML file: keys at the top for every verb, `[verb]` for one."""
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), ctx, param) from None
    shared = _underscored({k: v for k, v in values.items() if not isinstance(v, dict)})
    ctx.default_map = {verb: {**shared, **_underscored(values.get(verb, {}))} for verb in VERBS}


def _underscored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in values.items()}


@click.command(cls=VerbGroup, epilog=EPILOG, context_settings={"max_content_width": 100})
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    envvar="DUPLEX_RUNNER_CONFIG",
    show_envvar=True,
    is_eager=True,
    expose_value=False,
    callback=_load_config,
    help="TOML file with defaults: option names as keys, [verb] tables for one verb.",
)
@click.version_option(package_name="duplex-runner")
def cli() -> None:
    """Run commands on workers: durable, with live output."""
