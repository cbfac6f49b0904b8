"""A command as one text for `bash -c`: all that an agent of the second ancestor can be told. Pure.

Owns the quoting. The text gives up its shell for the command (`exec`), so that the exit status,
the signals and the process are the command's own.
"""

import base64
import shlex
from typing import Final

from remote_runner.signals import signal_number
from remote_runner.types import Command

MAX_TEXT: Final = 128 * 1024 - 1
"""Bytes of one argument that Linux takes (MAX_ARG_STRLEN, less its end)."""
TIMED_OUT: Final = (124, 137)
"""What `timeout` exits with after its first signal, and after SIGKILL."""


def bash_text(command: Command) -> str:
    """The text. Input stands in it as base64, a limit of the time is `timeout`'s to hold."""
    words = ["exec"]
    if command.timeout is not None:
        number = signal_number(command.kill_signal) or 15
        grace = max(command.kill_grace, 0.001)  # to `timeout`, 0 is for ever
        words += ["timeout", "-s", str(number), "-k", f"{grace:.3f}", f"{command.timeout:.3f}"]
    words += ["env", "--", *(f"{name}={value}" for name, value in command.env.items())]
    words += _argv(command)
    text = " ".join(map(shlex.quote, words))
    if command.stdin is None:
        text += " </dev/null"
    else:
        encoded = base64.b64encode(command.stdin).decode()
        text += f" < <(printf %s {shlex.quote(encoded)} | base64 -d)"
    if command.cwd is not None:
        folder = command.cwd if command.cwd.startswith("/") else f"./{command.cwd}"
        text = f"cd {shlex.quote(folder)} || exit 126; {text}"
    return text


def _argv(command: Command) -> list[str]:
    if command.shell:
        shell = command.shell if isinstance(command.shell, str) else "/bin/sh"
        argv = [shell, "-c", " ".join([command.command, *command.args])]
    else:
        argv = [command.command, *command.args]
    if "=" not in argv[0]:
        return argv
    return ["sh", "-c", 'exec "$0" "$@"', *argv]  # `env` would take it for a variable
