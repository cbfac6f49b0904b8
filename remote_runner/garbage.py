"""How often a process that runs for long looks for garbage."""

import gc
from typing import Final

GARBAGE: Final = 10_000
"""New objects after which a collection looks for garbage. What is under way of a few hundred jobs
is as many: with the 700 that Python begins with, a seventh of the server's time went to looking at
these, which are free by themselves once a job has ended."""


def collect_garbage_rarely() -> None:
    """To be called when all is loaded. What is there by now stays: to walk all of it, as a full
    collection does, would hold an event loop for 50 ms."""
    gc.freeze()
    gc.set_threshold(GARBAGE)
