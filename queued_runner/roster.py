"""Keeps true what the store says of the workers of this server: which are here, and how they are.

Other servers show them, and know by it where a worker is. It owns the order of what it writes and
how much may wait: one word a worker, the last one, so that workers that come and go while the
database is away pile up nothing. A worker that says what it holds is written down by that
(`Store.take_over`); here is what changes afterwards.
"""

from itertools import islice
from typing import Any, Final, NamedTuple

from outcome import Error

from queued_runner.sightings import worker_record
from queued_runner.store.base import Store, WorkerRecord
from queued_runner.store.commit import GroupCommit
from remote_runner.types import WorkerEvent, WorkerInfo

MAX_WORDS: Final = 256
"""Workers that one operation writes down: bounds its time."""


class _Word(NamedTuple):
    """What is to be written of a worker. `is_over`: nobody ever has its id again."""

    record: WorkerRecord
    is_here: bool
    is_over: bool = False


class Roster:
    """The workers of this server in the store; `commits` is the one writer of it."""

    def __init__(self, commits: GroupCommit) -> None:
        self._commits = commits
        self._here: dict[str, WorkerRecord] = {}
        """What the store says of those that are here, or will once it is written."""
        self._awaited: dict[str, bool] = {}
        """Those that have said what they hold and have not joined: whether that is long ago."""
        self._words: dict[str, _Word] = {}
        self._is_writing = False

    def begin(self, worker_id: str) -> _Word | None:
        """The store is about to be told of a new connection of this worker: what was still to be
        written of the last one must not come after it. Give it to `fail` if that is refused."""
        return self._words.pop(worker_id, None)

    def fail(self, word: _Word | None) -> None:
        """The store knows of no new connection."""
        if word is not None:
            self._write(word)

    def expect(self, record: WorkerRecord) -> None:
        """The store knows the new connection of a worker, which joins at once, unless it ends."""
        self._here[record.worker_id] = record
        self._awaited[record.worker_id] = False

    def see(self, event: WorkerEvent, worker: WorkerInfo) -> None:
        """Something has happened to a worker."""
        self._awaited.pop(worker.id, None)
        known = self._here.get(worker.id)
        if event is WorkerEvent.LEFT:
            if known is not None:
                self._lose(known, is_over=worker.is_baseline)
            return
        boot, connection = ("", 0) if known is None else (known.boot, known.connection)
        record = worker_record(worker, boot, connection)
        if record != known:
            self._here[worker.id] = record
            self._write(_Word(record, is_here=True))

    def look_again(self) -> None:
        """Forget those that were expected, a while ago, and have not come."""
        for worker_id, is_late in list(self._awaited.items()):
            if is_late:
                del self._awaited[worker_id]
                self._lose(self._here[worker_id])
            else:
                self._awaited[worker_id] = True

    def write_all(self) -> None:
        """The store has lost all of it."""
        for record in self._here.values():
            self._words[record.worker_id] = _Word(record, is_here=True)
        self._go_on()

    def _lose(self, record: WorkerRecord, *, is_over: bool = False) -> None:
        del self._here[record.worker_id]
        self._write(_Word(record, is_here=False, is_over=is_over))

    def _write(self, word: _Word) -> None:
        self._words[word.record.worker_id] = word
        self._go_on()

    def _go_on(self) -> None:
        """One operation at a time: what comes meanwhile goes into the next one."""
        if not self._words or self._is_writing:
            return
        chosen = sorted(
            islice(self._words, MAX_WORDS)
        )  # in one order, for the locks of all servers
        words = [self._words.pop(worker_id) for worker_id in chosen]

        def write(store: Store) -> None:
            for record, is_here, is_over in words:
                if is_here:
                    store.see_worker(record)
                else:
                    store.lose_worker(record)
                if is_over:
                    store.resume_worker(record.worker_id)

        def done(result: Any) -> None:
            self._is_writing = False
            if not isinstance(result, Error):
                self._go_on()

        self._is_writing = True
        self._commits.submit(write, done)
