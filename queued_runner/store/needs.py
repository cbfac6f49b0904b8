"""The `needs` of jobs as sorted text, so that an ordered index finds those that a worker satisfies.

Owns the text and the walk over it; pure, the index is a function. One item a line, lines sorted:
a set of needs lies between all that begin with the same items, as a word does in a dictionary.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Final

Seek = Callable[[str], str | None]
"""The smallest text in the index that is greater than the one given."""

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), ord("\\"))}
"""No item holds what ends one, nor anything that sorts before that."""


def _lines(labels: Mapping[str, str]) -> list[str]:
    return sorted(
        f"{name.translate(_ESCAPES)}\t{value.translate(_ESCAPES)}\n"
        for name, value in labels.items()
    )


def needs_text(needs: Mapping[str, str]) -> str:
    """The text of some needs: equal for equal needs, `""` for none."""
    return "".join(_lines(needs))


def satisfied_needs(labels: Mapping[str, str], seek: Seek) -> Iterator[str]:
    """The texts in the index whose every item is among `labels`; `""` always.

    It leaps over what cannot match, from both sides: neither a million needs for other workers
    nor a hundred labels that nobody asks for cost more than a few seeks.
    """
    yield ""
    ours = _lines(labels)
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
