"""What exactly is executed for a command, and how a failure to do so reads.

Owns argv, the environment and the sentences; starts nothing.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remote_runner.mask import Mask
from remote_runner.types import Command, Outcome, Reason

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_EXHAUSTED: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)
)
"""The machine lacks something, the command does not: another worker may do better."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A `Command` and what only the worker knows.

    `full_env` replaces the base environment, `extra_env` is added last. `detach`: seconds after
    which the runner gives it up without contact, of which `silence` are over; None: never.
    """

    command: Command
    full_env: Mapping[str, str] | None = None
    uid: int | None = None
    gid: int | None = None
    extra_env: Mapping[str, str] = field(default_factory=dict)
    detach: float | None = None
    silence: float = 0.0

    def argv(self) -> tuple[list[str], str]:
        """The arguments, and the file to execute."""
        command = self.command
        if command.shell:
            shell = command.shell if isinstance(command.shell, str) else "/bin/sh"
            return [shell, "-c", " ".join([command.command, *command.args])], shell
        argv0 = command.command if command.argv0 is None else command.argv0
        return [argv0, *command.args], command.command

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of the process, on a machine whose jobs have this one at least."""
        lowest = base if self.full_env is None else self.full_env
        return {**lowest, **self.command.env, **self.extra_env}


def base_environment() -> dict[str, str]:
    """The small environment of a job: never the worker's own."""
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
    }


@dataclass(frozen=True, slots=True)
class SpawnFailure:
    """Why nothing was started: an exit status as a shell gives it, and one line.

    `is_refusal`: the command is not to blame, this machine has no room for it now.
    """

    status: int
    line: str
    is_refusal: bool = False

    @property
    def output(self) -> bytes:
        """What stands in the job's stderr."""
        return f"duplex-runner: {self.line}\n".encode()

    @property
    def outcome(self) -> Outcome:
        if self.is_refusal:
            return Outcome(Reason.REFUSED)
        return Outcome(
            Reason.SPAWN_ERROR, exit_code=self.status, output_bytes=len(self.output), duration=0.0
        )


def explain(launch: Launch, environment: Mapping[str, str], error: Exception) -> SpawnFailure:
    """Why `launch` could not be started, for the one who wrote the command. `environment`: that of
    the process."""
    command = launch.command
    hide = Mask(command.mask).hide
    argv, file = launch.argv()
    name = _shown(hide(file))
    cwd = command.cwd
    place = _shown(hide(cwd or ""))
    if isinstance(error, ValueError):
        if any("\0" in text for text in (*argv, cwd or "", *environment.values())):
            line = f"{name}: a command, its arguments and its variables cannot contain NUL bytes"
            return SpawnFailure(NOT_EXECUTABLE, line)
        return SpawnFailure(NOT_EXECUTABLE, f"{name}: {error}")
    if cwd is not None and not os.path.isdir(cwd):
        why = "is not a directory" if os.path.exists(cwd) else "does not exist on this worker"
        return SpawnFailure(NOT_EXECUTABLE, f"the working directory {place} {why}")
    if cwd is not None and not os.access(cwd, os.X_OK):
        return SpawnFailure(NOT_EXECUTABLE, f"the working directory {place} may not be used")
    code = error.errno if isinstance(error, OSError) else None
    if code in _EXHAUSTED:
        return SpawnFailure(NOT_EXECUTABLE, f"{name}: {os.strerror(code or 0)}", is_refusal=True)
    found = _locate(file, cwd, environment.get("PATH"))
    if not file or (code == errno.ENOENT and found is None):
        return SpawnFailure(NOT_FOUND, f"{name}: command not found on this worker")
    if code is None:
        return SpawnFailure(NOT_EXECUTABLE, f"{name}: {error}")
    words = os.strerror(code)
    if code == errno.ENOENT:
        words = "its interpreter (the #! line, or the loader) does not exist on this worker"
    elif code == errno.E2BIG:
        words = "the arguments and the environment are too large"
    elif code == errno.ENOEXEC:
        words = "is not a program of this machine; a script begins with a #! line"
    elif code == errno.EPERM and (launch.uid is not None or launch.gid is not None):
        words = "this worker may not run commands as another user; start it as root"
    elif code == errno.EACCES and found is not None and os.path.isdir(found):
        words = "is a directory"
    return SpawnFailure(NOT_EXECUTABLE, f"{name}: {words}")


def _locate(file: str, cwd: str | None, path: str | None) -> str | None:
    """The file that was to be executed, if there is one."""
    if "/" in file:
        place = os.path.join(cwd or "", file)
        return place if os.path.exists(place) else None
    return shutil.which(file, path=path)


def _shown(text: str) -> str:
    return text if text and text.isprintable() else repr(text)
