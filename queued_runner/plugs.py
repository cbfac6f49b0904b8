"""Finds `JobRunner` plugs by name: the entry points of the group `duplex_runner.runners`."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Final

from remote_runner.errors import RunnerError

GROUP: Final = "duplex_runner.runners"


class UnknownPlug(RunnerError):
    """No installed package offers a runner of this name."""


def load_plug(name: str) -> Callable[..., Any]:
    """The factory of the runner called `name`.

    Raises:
        UnknownPlug: nothing installed offers it.
    """
    found = entry_points(group=GROUP)
    for entry in found:
        if entry.name == name:
            factory: Callable[..., Any] = entry.load()
            return factory
    known = ", ".join(sorted({entry.name for entry in found})) or "none"
    raise UnknownPlug(
        f"no runner called {name!r} is installed (there is: {known});"
        f" install the package that offers it, or duplex-runner itself with pip"
    )
