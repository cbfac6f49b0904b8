"""The last lines of an output: where they begin. Pure; holds offsets, never the output itself."""

from collections import deque
from typing import Final

from queued_runner.queue import Record

MAX_LINES: Final = 100_000
"""Lines that one may ask for: what is held is one number for each."""


class Tail:
    """Fed with records in order, knows where the last `lines` lines of `stream` (None: of both).

    A line ends with its newline; what follows the last newline is a line too.
    """

    def __init__(self, lines: int, stream: str | None, offset: int) -> None:
        self._lines = lines
        self._stream = stream
        self._starts: deque[int] = deque(maxlen=lines)
        self._is_within_line = False
        self._end = offset

    @property
    def offset(self) -> int:
        """Where the first of those lines begins; the end of the output when there is none."""
        return self._starts[0] if self._starts else self._end

    def feed(self, record: Record) -> None:
        """Take the next record."""
        self._end = record.offset + len(record.data)
        if not record.data or self._stream not in (None, record.stream):
            return
        # From its end, at most `lines` newlines: what was before them cannot count any more.
        starts: list[int] = []
        place = len(record.data) - 1
        while len(starts) < self._lines and (place := record.data.rfind(b"\n", 0, place)) >= 0:
            starts.append(record.offset + place + 1)
        if not self._is_within_line:
            starts.append(record.offset)
        self._starts.extend(reversed(starts))
        self._is_within_line = not record.data.endswith(b"\n")
