"""Selectors of jobs: `17`, `3,5-8`, `last`, `all`. Parsing is pure; `resolve` asks the server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from queued_runner.client import Client

MAX_IDS: Final = 100_000
"""Ids that one selector may spell out."""
_PART = re.compile(r"([1-9][0-9]{0,17})(?:-([1-9][0-9]{0,17}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selector:
    """Ids that were spelled out, or a word that the server's jobs give a meaning."""

    ids: tuple[int, ...] = ()
    word: str | None = None


def parse_selector(text: str) -> Selector:
    """The selector in `text`.

    Raises:
        ValueError: it is none.
    """
    if text in ("last", "all"):
        return Selector(word=text)
    ids: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text!r} names no jobs; write 17, 3,5-8, last or all")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first + len(ids) >= MAX_IDS:
            raise ValueError(f"{part!r} is not a range of at most {MAX_IDS} jobs")
        ids += range(first, last + 1)
    return Selector(tuple(dict.fromkeys(ids)))


def resolve(client: "Client", selectors: Sequence[Selector]) -> list[int]:
    """The ids, each once; `last` is the newest job, `all` are those that have not ended."""
    ids: list[int] = []
    for selector in selectors:
        if selector.word == "last":
            newest = [job["id"] for job in client.jobs(limit=1)]
            if not newest:
                raise click.UsageError("There is no job yet; 'queued-runner submit' makes one.")
            ids += newest
        elif selector.word == "all":
            for state in ("queued", "running"):
                ids += sorted(job["id"] for job in client.jobs(state=state))
        else:
            ids += selector.ids
    return list(dict.fromkeys(ids))


def resolve_one(client: "Client", selector: Selector) -> int:
    """The one job that is selected.

    Raises:
        click.UsageError: it is not one.
    """
    ids = resolve(client, [selector])
    if len(ids) != 1:
        raise click.UsageError(f"This verb takes one job, the selector names {len(ids)}.")
    return ids[0]


class SelectorType(click.ParamType):  # type: ignore[type-arg]
    """A selector, from its text."""

    name = "selector"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Selector:
        if isinstance(value, Selector):
            return value
        try:
            return parse_selector(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


SELECTOR: Final = SelectorType()
