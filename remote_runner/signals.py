"""Signals by name and by number, the nameless real-time ones included. Pure."""

import signal
from typing import Final

_FIRST_REAL_TIME: Final = 32
"""The kernel's; the C library keeps a few of them and calls the first that is left SIGRTMIN."""


def _relative_name(number: int) -> str:
    return f"SIGRTMIN{number - signal.SIGRTMIN:+d}"


_NUMBERS: Final[dict[str, int]] = {
    **{_relative_name(number): number for number in range(_FIRST_REAL_TIME, signal.SIGRTMAX + 1)},
    **{name: item.value for name, item in signal.Signals.__members__.items()},
}


def signal_name(number: int) -> str:
    """`SIGKILL`; `SIGRTMIN+6` for what has no name of its own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return _relative_name(number)


def signal_number(name: str) -> int | None:
    """The reverse of `signal_name`; None for a name that nobody knows here."""
    return _NUMBERS.get(name)
