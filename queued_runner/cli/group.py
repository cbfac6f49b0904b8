"""The group of all verbs: a verb costs only its own imports, and its errors end the program well.

It owns the way from an exception to one line and an exit status. It knows nothing of what a verb
does.
"""

import difflib
import os
import sys
from typing import Any, Final

import click

from queued_runner.cli.config_file import config_option, with_file
from queued_runner.cli.exit_status import CANCELLED
from queued_runner.cli.options import say
from queued_runner.cli.verbs import VERBS, load_verb

SIGPIPE_STATUS: Final = 141
EX_IOERR: Final = 74

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
        return load_verb(cmd_name) if cmd_name in VERBS else None

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
            ctx.exit(CANCELLED)
        except click.BadParameter as error:
            raise with_file(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            say(f"the output cannot be written: {error.strerror or error}")
            _silence_stdout()
            ctx.exit(EX_IOERR)
        except Exception as error:
            # An error that brings its status is one that a person can act on: no traceback.
            status = getattr(error, "exit_code", None)
            if not isinstance(status, int):
                raise
            say(str(error))
            ctx.exit(status)


def _silence_stdout() -> None:
    """Nobody reads: what Python still wants to flush at its exit goes nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


@click.command(cls=VerbGroup, epilog=EPILOG, context_settings={"max_content_width": 100})
@config_option
@click.version_option(package_name="duplex-runner")
def cli() -> None:
    """Run commands on workers: durable, with live output."""
