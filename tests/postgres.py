"""A PostgreSQL of the tests' own: made in a temporary folder, reached by a socket in it, and ended
by its process id. It never runs as root, and listens on no port.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cached_property
from itertools import count
from pathlib import Path

import psycopg
import pytest

from queued_runner.store.postgres import PostgresStore

PATIENCE = 30.0
"""Seconds that it may take to be ready, on a machine that is busy with other tests."""
USER = "queue"
MEMORY = Path("/dev/shm")
ENOUGH = 1 << 30


def find_binaries() -> Path | None:
    """The folder of the newest PostgreSQL that is installed; Debian keeps it off the PATH."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    found = [folder for folder in folders if (folder / "initdb").exists()]
    return max(found, key=_version, default=None)


def _version(binaries: Path) -> int:
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True)
    number = re.search(r"(\d+)", said.stdout)
    return int(number[1]) if number else 0


class Postgres:
    """A cluster, running from its making until `close`.

    Args:
        is_durable: whether it syncs, for those who kill it; others are three times as quick.
    """

    def __init__(self, binaries: Path, *, is_durable: bool = False) -> None:
        self._binaries = binaries
        self._settings = [] if is_durable else ["fsync=off", "full_page_writes=off"]
        self._process: subprocess.Popen[bytes] | None = None
        self._queues: list[str] = []
        self._names = (f"queue_{number}" for number in count(1))
        # Not pytest's: others may not enter that, and the path of a socket is short.
        place = "/tmp" if is_durable else _quick_place()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=place))
        self._as_user: dict[str, object] = {}
        if os.getuid() == 0:
            owner = _unprivileged()
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        try:
            # Its own order of text is not that of bytes: the store must not rely on it.
            locale = ["--locale-provider=icu", "--icu-locale=en-US"]
            self._run(
                "initdb", "--pgdata", self._data, "--username", USER, "--auth=trust",
                "--encoding=UTF8", "--locale=C", "--no-sync",
                *(locale if _version(binaries) >= 15 else []),
            )  # fmt: skip
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, command: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._binaries / command, *map(str, arguments)],
            cwd=self.folder, env={"PATH": os.defpath, "LC_ALL": "C"}, capture_output=True,
            text=True, check=False, **self._as_user,  # type: ignore[call-overload]
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    # --- its life ---

    def start(self) -> None:
        """Run it on the data there is, and wait until it answers."""
        settings = [
            f"unix_socket_directories={self.folder}", "listen_addresses=", "max_connections=100",
            "shared_buffers=32MB", "deadlock_timeout=50ms", *self._settings,
        ]  # fmt: skip
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data,
                 *(part for setting in settings for part in ("-c", setting))],
                cwd=self.folder, env={"PATH": os.defpath, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._as_user,  # type: ignore[call-overload]
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.address("postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self) -> None:
        """End it in order; who is connected loses the connection."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it at once: what it has not synced it finds in its log at the next start, or not."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def cpu_seconds(self) -> float:
        """What all its processes have taken so far, those that have ended included."""
        assert self._process is not None
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if path.parent.name == str(self._process.pid):
                ticks += sum(map(int, fields[11:15]))
            elif fields[1] == str(self._process.pid):
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it, and remove all that it has written."""
        self.crash()
        shutil.rmtree(self.folder)

    # --- its databases ---

    def address(self, database: str) -> str:
        """What a store is opened with."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement in a connection of its own."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """The name of a database that nobody has used."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    @cached_property
    def _migrated(self) -> str:
        name = self.new_database()
        PostgresStore(self.address(name)).close()
        return name

    def new_queue(self) -> str:
        """The address of a queue that nobody has used."""
        name = self.new_database(self._migrated)
        # The copies of a template have its identity too, as the copies of a queue have.
        self.execute("UPDATE identity SET id = replace(gen_random_uuid()::text, '-', '')", name)
        self._queues.append(name)
        return self.address(name)

    def drop_queues(self) -> None:
        """Those of a test that has ended: each takes 8 MB."""
        while self._queues:
            self.execute(f"DROP DATABASE {self._queues.pop()} WITH (FORCE)")


def _quick_place() -> str:
    """Memory, where there is enough of it: a new database is three hundred files."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH:
        return str(MEMORY)
    return "/tmp"


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is neither a user postgres nor a user nobody")


def binaries_or_skip() -> Path:
    found = find_binaries()
    if found is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    return found
