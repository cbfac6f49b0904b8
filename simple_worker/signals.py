"""Signals by name and by number, the nameless real-time ones included. Pure."""

import signal
from contextlib import suppress


def signal_name(number: int) -> str:
    """`SIGKILL`; `SIGRTMIN+6` for what has no name of its own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def signal_number(name: str) -> int:
    """The reverse of `signal_name`; SIGTERM for a name that nobody knows here."""
    with suppress(KeyError):
        return signal.Signals[name].value
    base, _, above = name.partition("+")
    if base == "SIGRTMIN" and above.isascii() and above.isdigit():
        return min(signal.SIGRTMIN + int(above), signal.SIGRTMAX)
    return signal.SIGTERM
