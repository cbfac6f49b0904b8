"""Which engine a queue lies in: opens it, and what belongs to it. Knows every engine, no verb."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from queued_runner import datadir
from queued_runner.config import Settings
from queued_runner.hints import Hints, NoHints
from queued_runner.store.base import Reader, Store
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.errors import UnusableSettings


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
            path = settings.data_dir / datadir.DATABASE
            if url is not None and url.path is not None:
                path = url.path
                if path.parent.resolve() != settings.data_dir.resolve():
                    stack.enter_context(datadir.hold(path.parent))
            writer = SQLiteStore(path)
            stack.callback(writer.close)
            reader = SQLiteStore(path, is_reader=True)
            stack.callback(reader.close)
            yield OpenStore(writer, reader)
        else:
            yield _opened_postgres(url.url, stack)


def _opened_postgres(url: str, stack: ExitStack) -> OpenStore:
    try:
        from queued_runner.store.postgres import PostgresReader, PostgresStore
        from queued_runner.store.postgres_hints import PostgresHints
        from queued_runner.store.postgres_session import READERS
    except ImportError as error:
        raise UnusableSettings(
            "a store in PostgreSQL needs its driver; install duplex-runner[postgres]"
        ) from error
    writer = PostgresStore(url)
    stack.callback(writer.close)
    reader = PostgresReader(url)
    stack.callback(reader.close)
    return OpenStore(writer, reader, READERS, True, PostgresHints(url))
