"""The data directory: where it is, who holds it, and the small files that tell clients about it.

Clients import this too, to find the server: it stays light.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from queued_runner.errors import DataDirUnusable
from remote_runner.token_file import read_token

LOCK: Final = "lock"
SERVER: Final = "server.json"
TOKEN: Final = "token"
NAME: Final = "name"
DATABASE: Final = "queue.db"
LOGS: Final = "logs"
RESULTS: Final = "results"
OWNER: Final = "queue"
"""In a folder of output that lies elsewhere: the identity of the queue that it belongs to."""
MAX_HOST: Final = 48
"""Characters of the name of a machine that become part of the name of a server."""


def default_data_dir() -> Path:
    """`DUPLEX_RUNNER_DATA_DIR`, else `duplex-runner` in the platform's state directory."""
    given = os.environ.get("DUPLEX_RUNNER_DATA_DIR")
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification of XDG says that a relative path is to be ignored.
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "duplex-runner"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Own a data directory while entered; the kernel lets go of it if the process dies.

    Raises:
        DataDirUnusable: another server has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirUnusable(
            f"the data directory {folder} cannot be written: {error.strerror}; choose another with"
            " --data-dir"
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            raise DataDirUnusable(
                f"the data directory {folder} is in use by the server with process id {holder};"
                " stop that one, or choose another with --data-dir"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(temporary, text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _create_private(path: Path, text: str) -> None:
    """Make such a file where there is none: of several who do so at the same moment, one does."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write(temporary, text)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _write(path: Path, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def require_own(folder: Path, identity: str) -> str:
    """Make a folder of output that of this queue; all its servers may have it, no other queue's.

    Jobs of two queues have the same numbers, and one would remove what it takes for its own. What
    it gives is what this folder alone has, wherever it is mounted.

    Raises:
        DataDirUnusable: it is another queue's, or it cannot be used.
    """
    path = folder / OWNER
    try:
        if not path.exists():
            _create_private(path, f"{identity} {secrets.token_hex(8)}\n")
        owner, _, mark = path.read_text(encoding="utf-8", errors="replace").strip().partition(" ")
    except OSError as error:
        raise DataDirUnusable(
            f"the folder of output {folder} cannot be used: {error.strerror}; make it, or choose"
            " another with --logs"
        ) from error
    if owner != identity:
        raise DataDirUnusable(
            f"the folder of output {folder} is that of another queue; choose another with --logs"
            f" (if this queue was copied from that one, which is no more, delete {path})"
        )
    return mark


def read_or_create_token(folder: Path) -> str:
    """The token of the HTTP API: made at the first start, kept from then on.

    Raises as `read_token`.
    """
    path = folder / TOKEN
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return read_token(path)


@dataclass(frozen=True, slots=True)
class ServerName:
    """What a server is called, and what no other place has: ids of its lives begin with it."""

    name: str
    place: str


def server_name(folder: Path) -> ServerName:
    """The name of the server that has this folder: made at its first start, kept from then on,
    whatever the machine is called later."""
    path = folder / NAME
    try:
        name, place = path.read_text(encoding="utf-8").split()
    except (FileNotFoundError, ValueError):
        place = secrets.token_hex(8)
        host = re.sub(r"[^A-Za-z0-9._-]", "", os.uname().nodename)[:MAX_HOST] or "server"
        name = f"{host}-{place[:4]}"
        write_private(path, f"{name} {place}\n")
    return ServerName(name, place)


def describe(
    folder: Path,
    *,
    detach: float,
    port: int | None,
    json_port: int | None,
    http_host: str,
    http_port: int | None,
) -> dict[str, Any]:
    """What clients are told about a server of this process; a port is None where it has none.

    `detach` is for how many seconds its jobs run on while it is away.
    """
    facts: dict[str, Any] = {"pid": os.getpid(), "data_dir": str(folder), "detach": detach}
    if port is not None:
        facts["port"] = port
    if json_port is not None:
        facts["json_port"] = json_port
    if http_port is not None:
        host = f"[{http_host}]" if ":" in http_host else http_host
        facts["http_port"] = http_port
        facts["url"] = f"http://{host}:{http_port}"
        facts["token_file"] = str((folder / TOKEN).resolve())
    return facts


@contextmanager
def announced(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """Tell clients on this machine where the server is, while entered."""
    path = folder / SERVER
    write_private(path, json.dumps(facts, indent=1) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
