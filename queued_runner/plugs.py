"""Finds `JobRunner` plugs by name, and makes them: the entry points of `duplex_runner.runners`.

It knows nothing of what they do. What a plug promises stands in docs/plugs.md.
"""

import difflib
import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from remote_runner.errors import UnusableSettings
from remote_runner.types import JobRunner

GROUP: Final = "duplex_runner.runners"
REMOTE: Final = "remote"
"""Runs jobs on the workers that connect. What is chosen where nothing is said."""
LOCAL: Final = "local"
"""Runs jobs in slots of this program."""


class UnknownPlug(UnusableSettings):
    """No installed package offers a runner of this name."""


def find_plug(name: str) -> EntryPoint:
    """Where the runner called `name` stands; nothing of it is imported.

    Raises:
        UnknownPlug: nothing installed offers it; the message lists what there is.
    """
    found = entry_points(group=GROUP)
    for entry in found:
        if entry.name == name:
            return entry
    known = sorted({entry.name for entry in found})
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UnknownPlug(
        f"no runner called {name!r} is installed (there is: {', '.join(known) or 'none'}){hint}"
    )


def make_runner(name: str, options: Mapping[str, Any]) -> JobRunner:
    """The runner called `name`, made with these keyword arguments.

    Raises:
        UnknownPlug: nothing installed offers it.
        UnusableSettings: it cannot be imported, or takes no such options.
    """
    entry = find_plug(name)
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as error:
        raise UnusableSettings(
            f"the runner {name!r} ({entry.value}) cannot be imported: {error};"
            " install its package again, or choose another with --runner"
        ) from error
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise UnusableSettings(
            f"the runner {name!r} does not take these options: {error};"
            f" they stand in the table [runners.{name}] of the configuration file"
        ) from None
    runner: JobRunner = factory(**options)
    return runner
