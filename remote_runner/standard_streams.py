"""Standard streams that whoever started this program has closed. The standard library alone."""

import os
import sys
from typing import Final

_FLAGS: Final = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY, "stderr": os.O_WRONLY}


def fill() -> frozenset[str]:
    """Open what is closed to nothing, and say which of them were.

    Call it first of all: the next file or connection would get the number of such a stream, and
    with it what is written there.
    """
    closed = set()
    for number, (name, flags) in enumerate(_FLAGS.items()):
        if getattr(sys, name) is not None:
            continue
        closed.add(name)
        opened = os.open(os.devnull, flags)
        if opened != number:  # Python has opened something there by now
            os.close(opened)
        mode = "r" if name == "stdin" else "w"
        setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 for as long as the program runs
    return frozenset(closed)
