"""Which engine a queue lies in: opens it, and what belongs to it. Knows every engine, no verb."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from queued_runner import datadir
from queued_runner.config import Settings
from queued_runner.errors import TransferRefused
from queued_runner.fleet import LEASE
from queued_runner.hints import Hints, NoHints
from queued_runner.store.base import Reader, Store
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.errors import UnusableSettings

if TYPE_CHECKING:
    from queued_runner.store.postgres import PostgresStore


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A queue that is open.

    `writer` is for one thread at a time, `reader` for `readers` at once. `is_shared`: other servers
    may use it too, and are told by `hints`.
    """

    writer: Store
    reader: Reader
    readers: int = 1
    is_shared: bool = False
    hints: Hints = field(default_factory=NoHints)


@contextmanager
def opened_store(settings: Settings) -> Iterator[OpenStore]:
    """The store that these settings name, while entered.

    Raises:
        UnusableSettings: there is no such store.
        DataDirUnusable: another server has its file.
        StoreError: it cannot be opened.
    """
    url = settings.store_url()
    with ExitStack() as stack:
        if url is None or url.path is not None:
            path = _database(settings)
            if path.parent != settings.data_dir.resolve():
                stack.enter_context(datadir.hold(path.parent))
            writer = SQLiteStore(path)
            stack.callback(writer.close)
            reader = SQLiteStore(path, is_reader=True)
            stack.callback(reader.close)
            yield OpenStore(writer, reader)
        else:
            yield _opened_postgres(url.url, stack)


def _database(settings: Settings) -> Path:
    """The file of a queue in SQLite, by the one name that a link to it leads to: who has its folder
    has it."""
    url = settings.store_url()
    named = None if url is None else url.path
    return (settings.data_dir / datadir.DATABASE if named is None else named).resolve()


@dataclass(frozen=True, slots=True)
class QueueAtRest:
    """A queue that no server has. `steps`: of its schema, before it was opened and now."""

    store: "SQLiteStore | PostgresStore"
    place: str
    steps: tuple[int, int]
    is_shared: bool = False

    def require_rest(self) -> None:
        """Be sure that no server has it. One of SQLite is held by whoever has opened it.

        Raises:
            TransferRefused: one has been seen a moment ago.
        """
        if not self.is_shared:
            return
        now = self.store.time(0.0)
        seen = max((server.beat_at for server in self.store.servers()), default=-LEASE)
        if now - seen < LEASE:
            raise TransferRefused(
                f"a server runs on the queue at {self.place}: stop all of them first; one that was"
                f" killed is forgotten after {LEASE:g} s"
            )


@contextmanager
def opened_at_rest(
    settings: Settings, *, is_new: bool = True, is_filled: bool = False
) -> Iterator[QueueAtRest]:
    """The queue that these settings name, its schema the newest, while entered.

    Args:
        settings: see there.
        is_new: it may be made now.
        is_filled: the folders of output and results are written to.

    Raises:
        UnusableSettings: there is no such store, or no queue in it.
        DataDirUnusable: a server has its file, or the folder that is written to.
        StoreError: it cannot be opened.
    """
    url = settings.store_url()
    is_shared = url is not None and url.is_shared
    place = url.shown if url is not None else str(_database(settings))
    nothing = f"there is no queue at {place}; say with --data-dir or --store where it is"
    if not is_shared and not is_new and not _database(settings).exists():
        raise UnusableSettings(nothing)
    with ExitStack() as stack:
        folders = set()
        if not is_shared:
            folders |= {settings.data_dir.resolve(), _database(settings).parent}
        if is_filled and settings.logs is None:
            folders.add(settings.data_dir.resolve())
        for folder in folders:
            stack.enter_context(datadir.hold(folder))
        if url is not None and is_shared:
            _require_driver()
            from queued_runner.store import postgres

            store: SQLiteStore | PostgresStore = postgres.PostgresStore(url.url)
        else:
            store = SQLiteStore(_database(settings))
        stack.callback(store.close)
        if not is_new and store.steps[0] == 0:
            raise UnusableSettings(nothing)
        yield QueueAtRest(store, place, store.steps, is_shared)


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UnusableSettings(
            "a store in PostgreSQL needs its driver; install duplex-runner[postgres]"
        ) from error


def _opened_postgres(url: str, stack: ExitStack) -> OpenStore:
    _require_driver()
    from queued_runner.store.postgres import PostgresReader, PostgresStore
    from queued_runner.store.postgres_hints import PostgresHints
    from queued_runner.store.postgres_session import READERS

    writer = PostgresStore(url)
    stack.callback(writer.close)
    reader = PostgresReader(url)
    stack.callback(reader.close)
    return OpenStore(writer, reader, READERS, True, PostgresHints(url))
