"""Lines into an empty queue: all of them in one transaction, or nothing.

It holds some lines at a time. Files come to their place before the rows count: what breaks in
between takes them back.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pydantic import ValidationError

from queued_runner.errors import TransferRefused
from queued_runner.jobs import JobSpec, JobState
from queued_runner.log_files import Record
from queued_runner.output_places import OutputPlace
from queued_runner.store.base import InDoubt, StoreBroken
from queued_runner.store.tables import Table
from queued_runner.store.whole import RowsRefused
from queued_runner.stores import QueueAtRest
from queued_runner.transfer.files import Staging
from queued_runner.transfer.format import (
    END,
    HEADER,
    MAX_LINE,
    OUTPUT,
    RESULT,
    BadLine,
    Order,
    Row,
    Seal,
    decode,
)
from remote_runner.results import BadHead, parse_head

if TYPE_CHECKING:
    from queued_runner.transfer.bucket_staging import BucketStaging

BATCH: Final = 1024 * 1024
"""Bytes of lines that are added at once, or so many rows."""
MAX_ROWS: Final = 1000


def import_queue(queue: QueueAtRest, file: BinaryIO, place: OutputPlace, detach: float) -> int:
    """Fill an empty queue from an export, its files into `place`, and say how many jobs it has.

    What runs is nobody's then, for `detach` seconds or its own, until its worker comes.

    Raises:
        BadLine: the file is not a whole export.
        TransferRefused: the queue is not empty, or not at rest.
        StoreError: it cannot be read, or written.
    """
    queue.store.whole.begin_alone()
    try:
        queue.require_rest()
        if not queue.store.whole.is_empty():
            raise TransferRefused(
                f"the queue at {queue.place} is not empty; import into a new one, which another"
                " --data-dir or --store names"
            )
        with _staging(place) as staging:
            jobs = _Import(queue, staging).run(file)
            _hand_over(queue, detach)
            staging.place()
            try:
                queue.store.commit()
            except (StoreBroken, InDoubt):  # nobody knows whether it is stored
                staging.keep()
                raise
            staging.keep()
        return jobs
    except OSError as error:
        queue.store.rollback()
        raise StoreBroken(f"the import stopped: {error}; nothing of it is left") from error
    except BaseException:
        queue.store.rollback()
        raise


def _staging(place: OutputPlace) -> "Staging | BucketStaging":
    if place.folder is not None:
        return Staging(place.folder)
    from queued_runner.transfer.bucket_staging import BucketStaging

    assert place.bucket is not None
    return BucketStaging(place.bucket)


def _hand_over(queue: QueueAtRest, detach: float) -> None:
    """What runs had a server elsewhere, which is not here."""
    now = queue.store.time(time.monotonic())
    server = secrets.token_hex(8)
    queue.store.enlist(server, "import", now)
    queue.store.bury_others(now, detach)
    queue.store.bury(server, now, detach)


class _Import:
    def __init__(self, queue: QueueAtRest, staging: "Staging | BucketStaging") -> None:
        self._whole = queue.store.whole
        self._staging = staging
        self._seal = Seal()
        self._order = Order()
        self._number = 0
        self._header: Row = ()
        self._jobs = 0
        self._table: Table | None = None
        self._rows: list[Row] = []
        self._size = 0

    def run(self, file: BinaryIO) -> int:
        while line := file.readline(MAX_LINE + 1):
            self._number += 1
            try:
                shape, row = decode(line)
                self._order.check(shape, row)
                if check := _CHECKS.get(shape.name):
                    check(row)
                if shape is END and row != self._seal.end():
                    raise ValueError("lines before it are missing or changed")
            except ValueError as error:
                raise BadLine(self._number, str(error)) from None
            self._seal.add(line)
            self._take(shape, row, len(line))
        if not self._order.is_whole:
            raise BadLine(self._number + 1, "there is none, and the export has no end")
        _, identity, last_id = self._header
        self._whole.become(identity, last_id)
        return self._jobs

    def _take(self, shape: Table, row: Row, size: int) -> None:
        if shape is not self._table or self._size >= BATCH or len(self._rows) == MAX_ROWS:
            self._insert()
            self._table = shape
        if shape is HEADER:
            self._header = row
        elif shape is OUTPUT:
            job_id, number, *facts = row
            self._staging.add_output(job_id, number, Record(*facts))
        elif shape is RESULT:
            job_id, number, epoch, _, data = row
            self._staging.add_result(job_id, number, epoch, data)
        elif shape is not END:
            self._rows.append(row)
            self._size += size
            self._jobs += shape.name == "jobs"

    def _insert(self) -> None:
        if self._table is not None and self._rows:
            try:
                self._whole.insert(self._table, self._rows)
            except RowsRefused as error:
                raise BadLine(
                    self._number - 1, f"up to here, in the last {len(self._rows)} rows, {error}"
                ) from error
        self._rows = []
        self._size = 0


def _check_job(row: Row) -> None:
    try:
        JobSpec.model_validate_json(row[1])
    except ValidationError:
        # Not what it says, which would repeat what may be a secret.
        raise ValueError("its spec is no job") from None
    with suppress(ValueError):
        JobState(row[7])
        return
    raise ValueError("its state is none")


def _check_results(row: Row) -> None:
    try:
        parse_head(row[2])
    except BadHead:
        raise ValueError("its head is none of results") from None


_CHECKS: Final[dict[str, Callable[[Row], Any]]] = {
    "jobs": _check_job,
    "results": _check_results,
}
"""What the store would trip over later."""
