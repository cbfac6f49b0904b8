"""The `needs` of jobs as sorted text, so that an ordered index finds those that a worker satisfies.

Owns the text and the walk over it; pure, the index is a function. One item a line, lines sorted:
a set of needs lies between all that begin with the same items, as a word does in a dictionary.
That a job takes several slots is one item more, with which a worker goes that has as many or more.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from remote_runner.types import WIDEST

Seek = Callable[[str], str | None]
"""The smallest text in the index that is greater than the one given."""

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), ord("\\"))}
"""No item holds what ends one, nor anything that sorts before that."""


_SLOTS: Final = "\\slots\t"
"""How the item of several slots begins: in a label, another character follows a backslash."""


def _lines(labels: Mapping[str, str]) -> list[str]:
    return [
        f"{name.translate(_ESCAPES)}\t{value.translate(_ESCAPES)}\n"
        for name, value in labels.items()
    ]


@lru_cache
def _slots_lines(most: int) -> tuple[str, ...]:
    """The items of all jobs of several slots that take so many at most."""
    return tuple(f"{_SLOTS}{slots}\n" for slots in range(2, min(most, WIDEST) + 1))


def needs_text(needs: Mapping[str, str], slots: int = 1) -> str:
    """The text of some needs: equal for equal needs, `""` for none and one slot."""
    return "".join(sorted([*_lines(needs), *_slots_lines(slots)[-1:]]))


def slots_of(text: str) -> int:
    """How many slots jobs with this text take."""
    line = next((line for line in text.split("\n") if line.startswith(_SLOTS)), None)
    return 1 if line is None else int(line.removeprefix(_SLOTS))


def satisfied_needs(labels: Mapping[str, str], seek: Seek, most: int = 1) -> Iterator[str]:
    """The texts in the index whose every item is among `labels`, and that take `most` slots at
    most; `""` always.

    It leaps over what cannot match, from both sides: neither a million needs for other workers
    nor a hundred labels that nobody asks for cost more than a few seeks.
    """
    yield ""
    ours = sorted([*_lines(labels), *_slots_lines(most)])
    known = set(ours)
    found = seek("")
    while found is not None:
        items = [f"{item}\n" for item in found.split("\n")[:-1]]
        same = next((i for i, item in enumerate(items) if item not in known), len(items))
        if same == len(items):
            yield found
            found = seek(found)
            continue
        node = "".join(items[:same])
        following = bisect_right(ours, items[same])
        if following < len(ours):
            found = seek(node + ours[following].rstrip("\n"))
        elif node:
            found = seek(node[:-1] + "\v")  # \v follows \n: past all that begin with `node`
        else:
            return
