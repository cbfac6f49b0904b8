"""Starts the main process of a job, in a session and with pipes of its own.

There are two ways. `_clone` does not wait until a process executes its command, so that several
begin at once, which makes a worker of short jobs a fifth faster. It is written in C, and is missing
where nothing could compile it. `subprocess.Popen` is always there, and alone runs commands as
another user.
"""

import errno
import os
import resource
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final


def _compiled() -> Any:
    try:
        import simple_worker._clone as module
    except ImportError:
        return None
    return module


_clone: Final = _compiled()
_UNKNOWN: Final = frozenset((errno.EINVAL, errno.ENOSYS, errno.EPERM))
"""What an emulator of Linux says to it, or a sandbox that does not know it."""


class MainProcess:
    """One that was begun. Its descriptors are its caller's to close, its end its to wait for."""

    def __init__(self, pid: int, pidfd: int, pipes: Sequence[int]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.pipes = pipes
        """Where its stdout and its stderr are read."""

    def confirm(self) -> None:
        """Wait until it executes its command. To be called once, soon: it may block a little.

        Raises:
            OSError: it cannot be executed; the process ends, and is to be reaped.
        """

    def reap(self) -> tuple[int, resource.struct_rusage]:
        """It has ended: its exit code, or minus its signal, and what it has used. From now on its
        number may be another's."""
        _, status, usage = os.wait4(self.pid, 0)
        return os.waitstatus_to_exitcode(status), usage


class _Cloned(MainProcess):
    def __init__(self, begun: tuple[int, int, int, int, object]) -> None:
        pid, pidfd, stdout, stderr, beginning = begun
        super().__init__(pid, pidfd, (stdout, stderr))
        self._beginning: object = beginning

    def confirm(self) -> None:
        number = _clone.wait_for_exec(self._beginning)
        self._beginning = None  # the memory that it began in
        if number:
            raise OSError(number, os.strerror(number))


class _Opened(MainProcess):
    def __init__(self, popen: subprocess.Popen[bytes], pipes: Sequence[int]) -> None:
        self._popen = popen
        super().__init__(popen.pid, os.pidfd_open(popen.pid), pipes)

    def reap(self) -> tuple[int, resource.struct_rusage]:
        code, usage = super().reap()
        self._popen.returncode = code  # it must not wait itself
        return code, usage


def begin(
    argv: Sequence[str],
    executable: str,
    env: Mapping[str, str],
    cwd: str | None,
    stdin: int,
    uid: int | None = None,
    gid: int | None = None,
) -> MainProcess:
    """Begin to start a process.

    Args:
        executable: the file; looked for along the PATH of `env` if there is no slash in it.
        stdin: the descriptor of its input, its caller's to close.
        uid, gid: whose it is; None: this process's own.

    Raises:
        OSError: this machine lacks something; without `_clone`, also what `confirm` raises.
        ValueError: a NUL, or a name of a variable that cannot be one.
    """
    if _clone is not None and uid is None and gid is None:
        try:
            return _Cloned(_begin_clone(argv, executable, env, cwd, stdin))
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
    return _begin_popen(argv, executable, env, cwd, stdin, uid, gid)


def _begin_clone(
    argv: Sequence[str], executable: str, env: Mapping[str, str], cwd: str | None, stdin: int
) -> tuple[int, int, int, int, object]:
    files = [executable]
    if "/" not in executable:
        folders = env.get("PATH", os.defpath).split(os.pathsep)
        files = [os.path.join(folder, executable) for folder in folders]
    variables = [f"{name}={value}" for name, value in env.items() if "=" not in name]
    if len(variables) < len(env):
        raise ValueError("illegal environment variable name")
    begun: tuple[int, int, int, int, object] = _clone.begin(
        files, argv, variables, () if cwd is None else (cwd,), stdin
    )
    return begun


def _begin_popen(
    argv: Sequence[str], executable: str, env: Mapping[str, str], cwd: str | None, stdin: int,
    uid: int | None, gid: int | None,
) -> MainProcess:  # fmt: skip
    ours: list[int] = []
    theirs: list[int] = []
    popen = None
    try:
        # Its own pipes Popen wraps in files, and closes through a stack of callbacks.
        for _ in range(2):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            ours.append(reading)
            theirs.append(writing)
        popen = subprocess.Popen(
            argv,
            executable=executable,
            stdin=stdin,
            stdout=theirs[0],
            stderr=theirs[1],
            cwd=cwd,
            env=env,
            start_new_session=True,
            user=uid,
            group=gid,
        )
        return _Opened(popen, ours)
    except BaseException:
        close(ours)
        if popen is not None:
            with popen:
                popen.kill()
        raise
    finally:
        close(theirs)


def close(descriptors: Iterable[int | None]) -> None:
    """Close them all; None is none."""
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)
