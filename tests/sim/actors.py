"""Who acts in a simulation: processes of servers and workers, each with its power and its clock.

A task belongs to the actor that its context names. A crash takes the power away: from then on
nothing that the actor still does can be seen by others, while its tasks are being cancelled.
"""

import math
from contextvars import ContextVar
from types import ModuleType

import trio

current: ContextVar["Actor"] = ContextVar("actor")


class Crashed(BaseException):
    """Raised in what a dead process would still do; no product code catches it."""


class Actor:
    """One process. `rate` is how fast its monotonic clock runs; 1.0 is true.

    `server` names the machine of a server, over all its lives; None: it is none.
    """

    def __init__(self, world, name, rate=1.0, server=None):
        self.world = world
        self.name = name
        self.rate = rate
        self.server = server
        self.is_on = True
        self.life = trio.CancelScope()
        self._off = trio.Event()
        self._waiting = None
        """Its tasks that could run if it did not stand still."""

    @property
    def is_still(self):
        return self._waiting is not None

    def stand_still(self):
        """As a stopped process does: time goes on, and what arrives for it waits."""
        if self._waiting is None and self.is_on:
            self._waiting = []

    def hold_back(self, task):
        """A task of a process that stands still could run now."""
        self._waiting.append(task)

    def go_on(self):
        """Go on where it stood still."""
        waiting, self._waiting = self._waiting, None
        trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq.extend(waiting or ())

    def crash(self):
        """The process is gone, from this very moment."""
        self.go_on()
        self.is_on = False
        self._off.set()
        self.life.cancel()

    def require_power(self):
        if not self.is_on:
            raise Crashed(self.name)

    async def block(self, seconds):
        """What a thread of this process does for so long; only a crash ends it sooner."""
        with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True):
            if seconds:
                await self._off.wait()
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
        self.require_power()


def local_trio():
    """The module `trio` as an actor sees it: its own clock behind every timer."""

    def rate():
        return current.get().rate

    def real(deadline):
        """The true time at which this actor's clock has reached a deadline, to the last bit."""
        at = deadline / rate()
        while at * rate() < deadline:
            at = math.nextafter(at, math.inf)
        return at

    def current_time():
        return trio.current_time() * rate()

    async def sleep(seconds):
        await trio.sleep(seconds / rate())

    async def sleep_until(deadline):
        await trio.sleep_until(real(deadline))

    def move_on_after(seconds, *, shield=False):
        return trio.move_on_after(seconds / rate(), shield=shield)

    def move_on_at(deadline, *, shield=False):
        return trio.move_on_at(real(deadline), shield=shield)

    def cancel_scope(*, deadline=float("inf"), shield=False):
        return trio.CancelScope(deadline=real(deadline), shield=shield)

    module = ModuleType("trio")
    module.__dict__.update(trio.__dict__)
    module.__dict__.update(
        current_time=current_time,
        sleep=sleep,
        sleep_until=sleep_until,
        move_on_after=move_on_after,
        move_on_at=move_on_at,
        CancelScope=cancel_scope,
    )
    return module
