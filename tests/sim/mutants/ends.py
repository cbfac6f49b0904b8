"""Planted bugs of how attempts end, and are told of."""

from queued_runner.dispatcher import Dispatcher
from remote_runner.protocol.messages import Stale
from remote_runner.runner import RemoteRunner
from remote_runner.session import Session
from remote_runner.types import Outcome, Reason
from simple_worker.attempts import HeldAttempt
from simple_worker.slots import Slots
from tests.sim.mutants.registry import mutant


@mutant("an end is not told again after a reconnection")
def close_not_repeated(put):
    original = HeldAttempt.resume

    def resume(self, *offsets):
        was_sent = self.is_close_sent
        original(self, *offsets)
        self.is_close_sent = was_sent

    put(HeldAttempt, "resume", resume)


@mutant("a worker forgets an attempt when it has told its end")
def forget_early(put):
    all_held = Slots.held.fget
    put(Slots, "held", property(lambda self: [h for h in all_held(self) if not h.is_close_sent]))


@mutant("a worker is not told that an attempt is stale")
def stale_not_sent(put):
    original = Session.send

    def send(self, message):
        if not isinstance(message, Stale):
            original(self, message)

    put(Session, "send", send)


@mutant("a lost attempt is taken for one that never began")
def lost_as_refused(put):
    def lose(self, run):
        run.is_lost = True
        self._end(run, Outcome(Reason.REFUSED, output_bytes=run.received))

    put(RemoteRunner, "_lose", lose)


@mutant("an attempt that never began at a worker counts as lost")
def refused_as_lost(put):
    def on_worker_ready(self, worker_id, boot, held):
        for attempt in self.live:
            mine = attempt.deadline is not None and attempt.job.worker_id == worker_id
            if mine and attempt.id not in held:
                self.lose(attempt)

    put(Dispatcher, "on_worker_ready", on_worker_ready)


@mutant("a new process of a worker passes for the old one")
def boot_ignored(put):
    original = RemoteRunner.on_ready

    def on_ready(self, session, listed):
        for known in self._runs.values():
            if known.worker_id == session.worker.id:
                known.boot = session.worker.boot
        original(self, session, listed)

    put(RemoteRunner, "on_ready", on_ready)
