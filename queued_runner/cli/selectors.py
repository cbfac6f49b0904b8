"""Selectors of jobs: `17`, `3,5-8`, `2-10:2`, `last`, `all`. Pure: text in, meaning out."""

from dataclasses import dataclass
from typing import Final, Literal

from queued_runner.cli.numbers import MAX_NUMBERS, each_number, parse_numbers

MAX_IDS: Final = MAX_NUMBERS
"""Ids that one selector may spell out."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Ids that were spelled out, or a word that gets its meaning from the server's jobs."""

    ranges: tuple[range, ...] = ()
    word: Literal["last", "all"] | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids that were spelled out, each once, in order."""
        return tuple(each_number(self.ranges)) if self.ranges else ()

    @property
    def is_single(self) -> bool:
        """Whether it names one job, whatever the server has."""
        ends = {number for part in self.ranges for number in (part[0], part[-1])}
        return self.word == "last" or len(ends) == 1


def parse_selector(text: str) -> Selector:
    """The selector in `text`.

    Raises:
        ValueError: it is none.
    """
    if text == "last":
        return Selector(word="last")
    if text == "all":
        return Selector(word="all")
    try:
        ranges = parse_numbers(text)
    except ValueError as error:
        hint = "" if "backwards" in str(error) else "; write all, or use --group"
        raise ValueError(f"{error}{hint}") from None
    if ranges is None or any(part[0] == 0 for part in ranges):
        raise ValueError(f"{text!r} names no job; write 17, 3,5-8, last or all")
    return Selector(ranges)
