"""The planted bugs by their names."""

from collections.abc import Callable

MUTANTS: dict[str, Callable] = {}
"""What puts a bug in, given `put(target, name, value)`."""
SERVERS: dict[str, int] = {}
"""How many servers every seed has for a bug, where it does not say so itself."""


def mutant(name, servers=None):
    """Register what puts this bug in."""

    def register(function):
        MUTANTS[name] = function
        if servers is not None:
            SERVERS[name] = servers
        return function

    return register
