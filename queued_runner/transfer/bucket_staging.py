"""Output and results of an import on their way into a bucket. All of it blocks.

There is no other place there to lay them down first: they lie where they belong from the beginning,
where nobody looks while their rows do not count, and are deleted if these never do.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from queued_runner.bucket import Bucket
from queued_runner.datadir import LOGS, RESULTS
from queued_runner.errors import TransferRefused
from queued_runner.log_files import Record
from queued_runner.log_objects import LogObjects, ObjectWriter
from queued_runner.result_files import ResultFile
from queued_runner.result_objects import ResultObjects
from queued_runner.store.base import OutputAway
from queued_runner.transfer.files import BATCH

_ALL: Final = (f"{LOGS}/", f"{RESULTS}/")


class BucketStaging:
    """As `Staging` of a folder, with a `bucket`.

    Raises:
        TransferRefused: there is output, or a result, already.
        OutputAway: it cannot be reached.
        OSError, NoRoom: results cannot be collected.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._is_kept = False
        self._attempt: tuple[int, int] | None = None
        self._writer: ObjectWriter | None = None
        self._records: list[Record] = []
        self._size = 0
        self._result: ResultFile | None = None
        self._result_size = 0

    def __enter__(self) -> Self:
        for beginning in _ALL:
            if next(self._bucket.names(beginning), None) is not None:
                raise TransferRefused(
                    f"{self._bucket.place}{beginning} is not empty: output there may be another"
                    " queue's; choose another place with --logs, or remove what an import left that"
                    " was killed"
                )
        self._folder = Path(tempfile.mkdtemp(prefix="import-"))
        self._logs = LogObjects(self._bucket)
        self._results = ResultObjects(self._bucket, self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_kept:
            with suppress(OutputAway):
                self._bucket.clear(_ALL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add_output(self, job_id: int, attempt: int, record: Record) -> None:
        """The next piece of an attempt's output."""
        if self._attempt != (job_id, attempt):
            self._write_output()
            self._attempt = job_id, attempt
            self._writer = self._logs.writer(job_id, attempt, 0)
        self._records.append(record)
        self._size += len(record.data)
        if self._size >= BATCH:
            self._write_output()

    def _write_output(self) -> None:
        if self._writer is not None and self._records:
            self._writer.append(self._records)
        self._records = []
        self._size = 0

    def add_result(self, job_id: int, attempt: int, epoch: int, data: bytes) -> None:
        """The next piece of an attempt's results."""
        file = ResultFile(job_id, attempt, epoch)
        if file != self._result:
            self._end_result()
            self._result = file
        self._results.append(file, data, self._result_size)
        self._result_size += len(data)

    def _end_result(self) -> None:
        if self._result is not None:
            self._results.keep(self._result)
        self._result, self._result_size = None, 0

    def place(self) -> None:
        """No more comes: all of it is durable."""
        self._write_output()
        self._end_result()

    def keep(self) -> None:
        """The rows are there: so these objects stay."""
        self._is_kept = True
