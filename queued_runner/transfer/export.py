"""A queue at rest as lines: all its rows as they are at one moment, then its files.

It holds some rows or one piece of a file at a time. It changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from queued_runner.datadir import LOGS, RESULTS
from queued_runner.errors import TransferRefused
from queued_runner.output_places import OutputPlace
from queued_runner.result_files import ResultFile
from queued_runner.store.tables import TABLES, Table
from queued_runner.stores import QueueAtRest
from queued_runner.transfer.files import read_output, read_result
from queued_runner.transfer.format import END, HEADER, OUTPUT, RESULT, VERSION, Row, Seal, encode

PIECE: Final = 256 * 1024
"""Bytes of results in one line."""


@dataclass(slots=True)
class Exported:
    """What was written. `missing`: attempts whose output or results are not, or not all, there."""

    jobs: int = 0
    missing: int = 0


class _Export:
    def __init__(
        self, queue: QueueAtRest, place: OutputPlace, write: Callable[[bytes], object]
    ) -> None:
        self._queue = queue
        self._place = place
        self._write = write
        self._seal = Seal()
        self.done = Exported()

    def _add(self, shape: Table, row: Row) -> None:
        line = encode(shape, row)
        self._seal.add(line)
        self._write(line)

    def run(self) -> None:
        whole = self._queue.store.whole
        self._add(HEADER, (VERSION, self._queue.store.identity(), whole.last_id()))
        for table in TABLES:
            for row in whole.rows(table):
                self._add(table, row)
                self.done.jobs += table.name == "jobs"
        for job_id, number, size in whole.attempts_in_files():
            end = 0
            for record in read_output(self._place.logs, job_id, number):
                end = record.offset + len(record.data)
                self._add(
                    OUTPUT,
                    (job_id, number, record.offset, record.at_ms, record.stream, record.data),
                )
            if end < size:
                self._miss(LOGS)
        for job_id, number, epoch in whole.results_in_files():
            offset = 0
            file = ResultFile(job_id, number, epoch)
            for data in read_result(self._place.results, file, PIECE):
                self._add(RESULT, (job_id, number, epoch, offset, data))
                offset += len(data)
            if not offset:
                self._miss(RESULTS)

    def end(self) -> None:
        self._write(encode(END, self._seal.end()))

    def _miss(self, name: str) -> None:
        folder = self._place.folder
        if folder is not None and not (folder / name).is_dir():
            raise TransferRefused(
                f"output of this queue does not lie in {folder}; say with --logs where"
            )
        self.done.missing += 1


def export_queue(
    queue: QueueAtRest, place: OutputPlace, write: Callable[[bytes], object]
) -> Exported:
    """Write a queue, whose files lie at `place`.

    Raises:
        TransferRefused: a server has it, or its files are elsewhere; what was written has no end.
        StoreError, OSError: it cannot be read, or written.
    """
    queue.require_rest()
    export = _Export(queue, place, write)
    queue.store.whole.begin_look()
    try:
        export.run()
    finally:
        queue.store.rollback()
    queue.require_rest()  # only now: what is seen above is of the beginning
    export.end()
    return export.done
