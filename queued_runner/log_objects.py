"""Output of attempts as objects in a bucket: one for each write, which never changes.

Owns their names, and that what is read of them is one stream. They hold what segment files do
(`log_files.py`), and owners are told apart as there; but an object is there whole or not at all.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from queued_runner.bucket import LANES, Bucket
from queued_runner.log_files import (
    Cursor,
    Record,
    Segment,
    encode_record,
    end_of,
    places,
    scan,
)

PAUSE: Final = 1.0
"""Seconds between two writes: what prints a little all the time makes no more objects than that."""
_NAME: Final = re.compile(r"(\d{10})\.(\d{20})\.seg")


def _beginning(job_id: int) -> str:
    return f"logs/{job_id // 1000}/{job_id}/"


def _name(folder: str, segment: Segment) -> str:
    """Of an object; the order of names is that of segments."""
    return f"{folder}{segment.epoch:010}.{segment.start:020}.seg"


def _listed(bucket: Bucket, folder: str, after: Segment | None = None) -> dict[Segment, int]:
    """What there is of an attempt, in order, with its sizes."""
    found = {}
    for name, size in bucket.names(folder, _name(folder, after) if after else ""):
        match = _NAME.fullmatch(name.removeprefix(folder))
        if match is not None:
            found[Segment(int(match[1]), int(match[2]))] = size
    return found


class ObjectWriter:
    """Writes the output of an attempt on, as its owner of this epoch."""

    def __init__(self, bucket: Bucket, folder: str, epoch: int) -> None:
        self._bucket = bucket
        self._folder = folder
        self._epoch = epoch
        self._written = 0
        self._asked: tuple[Segment, bytes, int] | None = None
        """What may be there by now, or come to be: where it begins, its bytes, and its end."""

    def append(self, records: list[Record]) -> None:
        """As `LogWriter`.

        An object that got no answer is sent once more as it was: the first may still arrive, and
        must not take the place of a longer one.
        """
        self._put()
        records = [record for record in records if record.offset >= self._written]
        if records:
            body = b"".join(map(encode_record, records))
            self._asked = Segment(self._epoch, records[0].offset), body, end_of(records[-1])
            self._put()

    def _put(self) -> None:
        if self._asked is not None:
            segment, body, end = self._asked
            self._bucket.put(_name(self._folder, segment), body)
            self._asked, self._written = None, end


class ObjectReader(Cursor):
    """Reads the output of an attempt, whoever writes it: lists what there is, and again only where
    that has no more."""

    def __init__(self, bucket: Bucket, folder: str, offset: int) -> None:
        super().__init__(offset)
        self._bucket = bucket
        self._folder = folder
        self._sizes: dict[Segment, int] = {}
        self._segments: list[Segment] = []
        self._read_last: Segment | None = None
        """Where the last record was."""

    def read(self) -> list[Record]:
        """As `LogReader`. What is deleted meanwhile has its end there."""
        try:
            return self._read_on() or self._look_again()
        except FileNotFoundError:
            return []

    def _look_again(self) -> list[Record]:
        last = self._read_last
        # What a first owner wrote lies in order. After a hand-over more may come to be before it.
        is_first = last is not None and last.epoch == 0
        self._sizes = _listed(self._bucket, self._folder, last if is_first else None)
        self._segments = list(self._sizes)
        self.segment = None
        for segment, limit in places(self._segments, self.offset):
            if segment == last:
                continue  # all of it was read
            self.move(segment, limit)
            if found := self._read_on():
                return found
        return []

    def _read_on(self) -> list[Record]:
        """The next records of this owner, as far as its objects were listed."""
        while self.segment is not None:
            if found := self._scan(self.segment):
                self._read_last = self.segment
                return found
            following = self._next(self.segment)
            if following is None:
                self.segment = None
            else:
                self.move(following, self.limit)
        return []

    def _next(self, segment: Segment) -> Segment | None:
        """The owner's last object that begins at the offset, or before it, if it is a later one."""
        if self.limit is not None and self.offset >= self.limit:
            return None
        at = bisect_left(self._segments, Segment(segment.epoch, self.offset + 1)) - 1
        if at < 0 or self._segments[at] <= segment:
            return None
        return self._segments[at]

    def _scan(self, segment: Segment) -> list[Record]:
        """Read on in one object."""
        whole = self._sizes[segment]

        def read(at: int, size: int) -> bytes:
            size = min(size, whole - at)
            return self._bucket.get(_name(self._folder, segment), at, size) if size else b""

        return scan(self, read)

    def last_end(self) -> int | None:
        """Where the newest owner's newest object ends; None: there is none at all."""
        self._sizes = _listed(self._bucket, self._folder)
        if not self._sizes:
            return None
        newest = max(self._sizes)
        self.move(newest, None)
        self.offset = newest.start
        while self._scan(newest):
            pass
        return self.offset


class LogObjects:
    """Output in a bucket, which several servers may share; see `LogFiles`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.pause = PAUSE

    def _folder(self, job_id: int, attempt: int) -> str:
        return f"{_beginning(job_id)}{attempt}/"

    def each(self, do: Callable[[Any], object], items: Iterable[Any]) -> Iterator[object]:
        """As `LogFiles`: several at once."""
        with ThreadPoolExecutor(LANES) as pool:
            yield from pool.map(do, items)

    def writer(self, job_id: int, attempt: int, epoch: int) -> ObjectWriter:
        """As `LogFiles`."""
        return ObjectWriter(self._bucket, self._folder(job_id, attempt), epoch)

    def reader(self, job_id: int, attempt: int, offset: int) -> ObjectReader:
        """As `LogFiles`."""
        return ObjectReader(self._bucket, self._folder(job_id, attempt), offset)

    def recover(self, job_id: int, attempt: int, epoch: int) -> int:
        """As `LogFiles`. It leaves an empty object, so that nothing an earlier owner still writes
        counts after that."""
        end = self.reader(job_id, attempt, 0).last_end()
        if end is None:
            return 0
        self._bucket.put(_name(self._folder(job_id, attempt), Segment(epoch, end)), b"")
        return end

    def newest_epoch(self, job_id: int, attempt: int) -> int | None:
        """As `LogFiles`."""
        segments = _listed(self._bucket, self._folder(job_id, attempt))
        return max(segments).epoch if segments else None

    def remove(self, job_ids: Sequence[int]) -> None:
        """As `LogFiles`."""
        self._bucket.clear([_beginning(job_id) for job_id in job_ids])
