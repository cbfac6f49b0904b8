"""The hints between the servers of a simulation: late, and often lost."""

import math
from random import Random

import trio

from tests.sim.actors import current

LOST = 0.3
"""Share of them that never arrive."""


class Bus:
    """All servers that listen, over all of one run."""

    def __init__(self, world):
        self._rng = Random(f"hints {world.scenario.seed}")
        self._listeners = {}

    def send(self, sender, hint):
        for actor, channel in self._listeners.items():
            if actor is not sender and actor.is_on and self._rng.random() >= LOST:
                channel.send_nowait((trio.current_time() + self._rng.random() / 5, hint))

    def listen(self, actor):
        self._listeners[actor], heard = trio.open_memory_channel(math.inf)
        return heard


class SimHints:
    """In place of `queued_runner.hints.Hints`, for one server."""

    def __init__(self, bus):
        self._bus = bus
        self._actor = current.get()

    def send(self, hint):
        if self._actor.is_on:
            self._bus.send(self._actor, hint)

    async def run(self, heard):
        async for due, hint in self._bus.listen(self._actor):
            await trio.sleep_until(due)
            heard(hint)
