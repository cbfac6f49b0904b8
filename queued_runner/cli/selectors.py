"""Selectors of jobs: `17`, `3,5-8`, `last`, `all`. Pure: text in, meaning out."""

import re
from dataclasses import dataclass
from typing import Final, Literal

MAX_IDS: Final = 100_000
"""Ids that one selector may spell out."""

_PART: Final = re.compile(r"([1-9][0-9]{0,17})(?:-([1-9][0-9]{0,17}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selector:
    """Ids that were spelled out, or a word that gets its meaning from the server's jobs."""

    ids: tuple[int, ...] = ()
    word: Literal["last", "all"] | None = None

    @property
    def is_single(self) -> bool:
        """Whether it names one job, whatever the server has."""
        return self.word == "last" or len(self.ids) == 1


def parse_selector(text: str) -> Selector:
    """The selector in `text`.

    Raises:
        ValueError: it is none.
    """
    if text == "last":
        return Selector(word="last")
    if text == "all":
        return Selector(word="all")
    ids: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text!r} names no job; write 17, 3,5-8, last or all")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part!r} runs backwards; write {last}-{first}")
        if last - first + len(ids) >= MAX_IDS:
            raise ValueError(
                f"{text!r} names more than {MAX_IDS:,} jobs; write all, or use --group"
            )
        ids += range(first, last + 1)
    return Selector(tuple(dict.fromkeys(ids)))
