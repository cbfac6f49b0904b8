"""How a peer gets an environment of its own and how its processes are run in it.

Every environment and everything a peer writes is below the folder of the benchmark. Every wait has
an end. A peer runs in a process group of its own, which is ended as a whole: it starts processes.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from benchmarks.harness import Skipped

HERE = Path(__file__).resolve().parent
INSTALL_SECONDS = 300


def install_python(folder: Path, name: str) -> None:
    """A virtual environment at `folder/name` with exactly the packages of `name.txt`.

    Raises:
        Skipped: the packages cannot be had.
    """
    installed = folder / name / "installed"
    if installed.exists():
        return
    _install([sys.executable, "-m", "venv", str(folder / name)], name)
    _install(
        [str(program(folder, name, "python")), "-m", "pip", "install", "--quiet",
         "--disable-pip-version-check", "--retries", "1", "-r", str(HERE / f"{name}.txt")], name,
    )  # fmt: skip
    installed.touch()


def install_node(folder: Path, name: str) -> None:
    """The packages of `name.json` at `folder/name/node_modules`.

    Raises:
        Skipped: there is no Node, or the packages cannot be had.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Skipped(f"{name}: node and npm are not installed")
    installed = folder / name / "installed"
    if installed.exists():
        return
    (folder / name).mkdir(exist_ok=True)
    shutil.copy(HERE / f"{name}.json", folder / name / "package.json")
    _install(
        ["npm", "install", "--prefix", str(folder / name), "--no-audit", "--no-fund",
         "--no-package-lock", "--ignore-scripts", "--fetch-retries", "1"], name,
    )  # fmt: skip
    installed.touch()


def _install(argv: Sequence[str], name: str) -> None:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Skipped(f"{name}: not installed after {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()
        reason = next((line for line in lines if "error" in line.lower()), "".join(lines[-1:]))
        raise Skipped(f"{name} cannot be installed: {reason}")


def program(folder: Path, name: str, command: str) -> Path:
    return folder / name / "bin" / command


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A fresh folder for one run of a peer, removed afterwards."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def free_port() -> int:
    """A port of loopback that was free a moment ago, for peers that must be told a number."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path],
    cwd: Path,
    env: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """`argv` while the block runs; what it says is added to `cwd/log`. It and all that it started
    is over afterwards. HOME is `cwd`: no peer reads or writes its user's settings."""
    with (cwd / "log").open("ab") as log:
        child = subprocess.Popen(
            argv, cwd=cwd, stdin=stdin, stdout=log if stdout is None else stdout, stderr=log,
            env={**os.environ, "HOME": str(cwd), "TMPDIR": str(cwd), **(env or {})},
            start_new_session=True,
        )  # fmt: skip
    try:
        yield child
    finally:
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            # The group stays ours for as long as anything of it lives, the leader or not.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)


def finish(child: subprocess.Popen[bytes], cwd: Path, seconds: float) -> None:
    """Waits until `child` has ended well.

    Raises:
        RuntimeError: it failed, or has not ended after `seconds`; with the end of its log.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=seconds)
    if child.returncode != 0:
        raise RuntimeError(f"ended with {child.returncode} in {seconds} s\n{tail(cwd)}")


def wait_for(condition: Callable[[], bool], cwd: Path, seconds: float, what: str) -> None:
    """Looks five times a second.

    Raises:
        RuntimeError: not after `seconds`; with the end of the log.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds} s for {what}\n{tail(cwd)}")
        time.sleep(0.2)


def tail(cwd: Path) -> str:
    return (cwd / "log").read_text(errors="replace")[-2000:]
