"""Looks for the first seed that finds a planted bug."""

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

from tests.sim.mutants.registry import MUTANTS, SERVERS
from tests.sim.taps import installed
from tests.sim.world import run

MISFIT = re.compile(r"\b(TypeError|AttributeError|NameError)\(|values to unpack")
"""What a patch fails with when the code that it was written for has changed."""


@dataclass(frozen=True)
class Find:
    """The first seed that finds a bug, if any does, and what it says."""

    name: str
    seed: int | None
    code: str
    text: str
    seconds: float

    @property
    def is_stale(self):
        """Whether it was the patch that failed, which proves nothing of the bug."""
        return self.code == "I0" and MISFIT.search(self.text) is not None

    @property
    def is_found(self):
        return self.seed is not None and not self.is_stale


def find(name, seeds):
    """Look for one bug."""
    begin = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(installed())
        MUTANTS[name](lambda *what: stack.enter_context(patch.object(*what)))
        for seed in seeds:
            verdict = run(seed, SERVERS.get(name))
            if verdict.code is not None:
                seconds = time.perf_counter() - begin
                return Find(name, seed, verdict.code, verdict.text, seconds)
    return Find(name, None, "", "", time.perf_counter() - begin)
