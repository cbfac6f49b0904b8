"""The jobs that a verb is about, as arguments; what a selector means on the server it is used on.

It owns the types of these arguments. The server is asked for `last` and `all` alone.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from queued_runner.cli.selectors import Selector, parse_selector

if TYPE_CHECKING:
    from queued_runner.client.api import Client


LONG_GAP: Final = 1000
"""Jobs between two that are wanted: no more than a page has are read in vain."""


class SelectorType(click.ParamType):  # type: ignore[type-arg]
    """A selector, from its text; `single` takes only those that name exactly one job."""

    name = "selector"

    def __init__(self, *, single: bool = False) -> None:
        self._single = single

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Selector:
        try:
            selector = value if isinstance(value, Selector) else parse_selector(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self._single and not selector.is_single:
            self.fail(f"{value!r} may name several jobs; write one, as 17 or last", param, ctx)
        return selector


class AfterType(click.ParamType):  # type: ignore[type-arg]
    """What a job is to come after: a selector, or else the key of a job."""

    name = "id"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Selector | str:
        if isinstance(value, Selector):
            return value
        try:
            return parse_selector(str(value))
        except ValueError:
            return str(value)


AFTER: Final = AfterType()
job_argument: Final = click.argument("selector", metavar="ID", type=SelectorType(single=True))
jobs_argument: Final = click.argument("selectors", metavar="ID...", nargs=-1, type=SelectorType())


def group_instead(
    ctx: click.Context, selectors: Sequence[Selector], group: str | None
) -> str | None:
    """The group where jobs are chosen by it, None where selectors name them.

    A group that the environment or a file gives is a default: selectors win over it.

    Raises:
        click.UsageError: there is neither, or both.
    """
    if selectors and ctx.get_parameter_source("group") is not ParameterSource.COMMANDLINE:
        return None
    if bool(selectors) == bool(group):
        raise click.UsageError("Give one or more IDs, or --group; 'queued-runner ps' lists both.")
    return group


def resolve(client: "Client", selectors: Sequence[Selector]) -> list[int]:
    """The ids, each once; `last` is the newest job, `all` are those that have not ended.

    Raises:
        ClientError: there is no last job, or the server cannot be asked.
    """
    from queued_runner.client.errors import ClientError

    ids: list[int] = []
    for selector in selectors:
        if selector.word == "last":
            newest = [job["id"] for job in client.jobs(limit=1)]
            if not newest:
                raise ClientError("There is no job yet; 'queued-runner submit' makes one.")
            ids += newest
        elif selector.word == "all":
            ids += unfinished(client)
        else:
            ids += selector.ids
    return list(dict.fromkeys(ids))


def with_after(client: "Client", spec: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a job whose `after` are selectors and keys: with ids in their place.

    Raises:
        ClientError: as `resolve`.
    """
    after: list[int | str] = []
    for item in spec.get("after", ()):
        after += [item] if isinstance(item, str) else resolve(client, [item])
    return {**spec, "after": after} if after else spec


def newest_first(
    client: "Client", selectors: Sequence[Selector], **filters: str | None
) -> Iterator[dict[str, Any]]:
    """The jobs themselves, page by page; those that there are not, or not of this kind, are none.

    `filters`: as for `Client.jobs`.
    """
    wanted = sorted(resolve(client, selectors))
    while wanted:
        # Where a page shows that the next one is far away it is left: a gap costs one request.
        span = wanted[-1] - wanted[0] + 1
        page = client.jobs(before=wanted[-1] + 1, limit=span, **filters)
        wanted = yield from _of_page(page, wanted)


def _of_page(
    jobs: Iterator[dict[str, Any]], wanted: list[int]
) -> Generator[dict[str, Any], None, list[int]]:
    """Those of the jobs that are wanted, until a long gap; gives what is wanted behind it."""
    for job in jobs:
        while wanted and wanted[-1] > job["id"]:
            wanted.pop()  # it is not there
        if not wanted or job["id"] - wanted[-1] > LONG_GAP:
            break
        if wanted[-1] == job["id"]:
            wanted.pop()
            yield job
    else:
        return []
    return wanted


def unfinished(client: "Client", group: str | None = None) -> list[int]:
    """The jobs that have not ended, the oldest first."""
    # A job may start between the two questions: in this order it is then found twice, not missed.
    states = ("queued", "running")
    return sorted({job["id"] for state in states for job in client.jobs(state=state, group=group)})
