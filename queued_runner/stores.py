"""Which engine a queue lies in: opens it, and what belongs to it. Knows every engine, no verb."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from queued_runner import datadir
from queued_runner.config import Settings
from queued_runner.hints import Hints, NoHints
from queued_runner.store.base import Store
from queued_runner.store.sqlite import SQLiteStore


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A queue that is open.

    `writer` is for one thread at a time, `reader` for `readers` at once. `is_shared`: other servers
    may use it too, and are told by `hints`.
    """

    writer: Store
    reader: Store
    readers: int = 1
    is_shared: bool = False
    hints: Hints = field(default_factory=NoHints)


@contextmanager
def opened_store(settings: Settings) -> Iterator[OpenStore]:
    """The store that these settings name, while entered.

    Raises:
        StoreError: it cannot be opened.
    """
    with ExitStack() as stack:
        path = settings.data_dir / datadir.DATABASE
        writer = SQLiteStore(path)
        stack.callback(writer.close)
        reader = SQLiteStore(path, is_reader=True)
        stack.callback(reader.close)
        yield OpenStore(writer, reader)
