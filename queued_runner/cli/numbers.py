"""Whole numbers as people write many of them: `3,5-8,10-20:2`. Pure: text in, ranges out, and back.

It owns that spelling. What the numbers are (jobs, indices) is the affair of who asks.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

MAX_NUMBERS: Final = 1_000_000
"""Numbers that one text may spell out."""

_NUMBER: Final = "(0|[1-9][0-9]{0,17})"
_PART: Final = re.compile(f"{_NUMBER}(?:-{_NUMBER}(?::([1-9][0-9]{{0,17}}))?)?", re.ASCII)


def parse_numbers(text: str) -> tuple[range, ...] | None:
    """The ranges in `text`, in its order; None where it is not written like that.

    Raises:
        ValueError: a range runs backwards, or there are more than `MAX_NUMBERS` numbers.
    """
    ranges = []
    total = 0
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            return None
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first:
            raise ValueError(f"{part!r} runs backwards; write {last}-{first}")
        ranges.append(range(first, last + 1, step))
        total += (last - first) // step + 1
        if total > MAX_NUMBERS:
            raise ValueError(f"{text!r} is more than {MAX_NUMBERS:,} numbers")
    return tuple(ranges)


def each_number(ranges: Sequence[range]) -> Iterable[int]:
    """Every number once, in order."""
    return ranges[0] if len(ranges) == 1 else dict.fromkeys(chain.from_iterable(ranges))


class Runs:
    """Numbers that mostly follow each other, kept as the runs that they make."""

    def __init__(self) -> None:
        self._runs: list[range] = []

    def extend(self, numbers: Iterable[int]) -> None:
        """More of them."""
        for number in numbers:
            if self._runs and number == self._runs[-1].stop:
                self._runs[-1] = range(self._runs[-1].start, number + 1)
            else:
                self._runs.append(range(number, number + 1))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._runs)

    def __str__(self) -> str:
        return ",".join(
            str(run.start) if len(run) == 1 else f"{run.start}-{run[-1]}" for run in self._runs
        )
