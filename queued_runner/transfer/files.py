"""Files of a transfer: an export that is there whole or not at all, and what an import lays down.

All of it blocks. Nothing that was there is ever written over, but for the file of an older export.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from queued_runner import log_files
from queued_runner.datadir import LOGS, RESULTS
from queued_runner.errors import TransferRefused
from queued_runner.log_files import LogFiles, LogFolder, Record, Tail
from queued_runner.result_files import ResultFile, ResultFiles, ResultFolder

BATCH: Final = 1024 * 1024
"""Bytes of output that are synced together."""


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that only its owner may read, and that is at its place once this is left in peace.

    Raises:
        TransferRefused: something else than a file is there.
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise TransferRefused(f"{path} is no file; name one, or write to stdout")
    path = path.resolve()
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with open(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(number)
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


class Staging:
    """Output and results of a queue on their way into `folder`, which has none yet.

    Entered, it takes them; `place` puts them where they belong; left without `keep`, all is gone.

    Raises:
        TransferRefused: there is output, or a result, already.
        OSError, NoRoom: they cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._placed: list[Path] = []
        self._is_kept = False
        self._tail: Tail | None = None
        self._records: list[Record] = []
        self._size = 0
        self._result: BinaryIO | None = None
        self._result_path = Path()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (LOGS, RESULTS):
            place = self._folder / name
            if place.exists() and any(place.iterdir()):
                raise TransferRefused(
                    f"{place} is not empty: output there may be another queue's; choose another"
                    " folder with --logs, or remove what an import left that was killed"
                )
        self._stage = Path(tempfile.mkdtemp(prefix=".import-", dir=self._folder))
        self._logs = LogFolder(self._stage / LOGS)
        self._results = ResultFolder(self._stage / RESULTS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._result is not None:
            self._result.close()
        if not self._is_kept:
            for place in self._placed:
                shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self._stage, ignore_errors=True)

    def add_output(self, job_id: int, attempt: int, record: Record) -> None:
        """The next piece of an attempt's output."""
        folder = self._logs.folder_of(job_id, attempt)
        if self._tail is None or self._tail.folder != folder:
            self._write_output()
            self._tail = Tail(folder)
        self._records.append(record)
        self._size += len(record.data)
        if self._size >= BATCH:
            self._write_output()

    def _write_output(self) -> None:
        if self._tail is not None and self._records:
            log_files.append(self._tail, self._records)
        self._records = []
        self._size = 0

    def add_result(self, job_id: int, attempt: int, epoch: int, data: bytes) -> None:
        """The next piece of an attempt's results."""
        path = self._results.path_of(ResultFile(job_id, attempt, epoch))
        if self._result is None or path != self._result_path:
            self._end_result()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._result, self._result_path = os.fdopen(number, "wb"), path
        self._result.write(data)

    def _end_result(self) -> None:
        if self._result is not None:
            self._result.flush()
            os.fsync(self._result.fileno())
            self._result.close()
            self._result = None

    def place(self) -> None:
        """No more comes: all of it is durable, and where it belongs."""
        self._write_output()
        self._end_result()
        for folder, _, _ in os.walk(self._stage):
            _sync(Path(folder))
        for name in (LOGS, RESULTS):
            if (self._stage / name).exists():
                os.rename(self._stage / name, self._folder / name)
                self._placed.append(self._folder / name)
        _sync(self._folder)

    def keep(self) -> None:
        """The rows are there: so these files stay."""
        self._is_kept = True


def read_output(logs: LogFiles, job_id: int, attempt: int) -> Iterator[Record]:
    """What lies in the files of an attempt, whoever wrote it, as one stream."""
    reader = logs.reader(job_id, attempt, 0)
    records: Sequence[Record]
    while records := reader.read():
        yield from records


def read_result(results: ResultFiles, file: ResultFile, size: int) -> Iterator[bytes]:
    """The file of an attempt's results, in pieces of `size`; nothing where there is none."""
    try:
        opened = results.open(file)
    except FileNotFoundError:
        return
    with closing(opened):
        offset = 0
        while data := opened.read(size, offset):
            yield data
            offset += len(data)
