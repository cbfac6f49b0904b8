"""Planted bugs of runs that wait for slots at their workers."""

from remote_runner.ahead import RunsAhead
from remote_runner.runner import RemoteRunner
from remote_runner.types import Outcome, Reason
from simple_worker.session import Session
from simple_worker.slots import Slots
from simple_worker.waiting import WaitingSpawns
from tests.sim.mutants.registry import mutant


@mutant("ahead: a worker keeps what waits over a lost connection")
def waiting_kept(put):
    def disconnect(self):
        self.outlet = None

    put(Slots, "disconnect", disconnect)


@mutant("ahead: what a worker gives back it begins too")
def withdrawn_begins(put):
    original = WaitingSpawns.remove

    def remove(self, attempt_id):
        waiting = self._spawns.get(attempt_id)
        was_there = original(self, attempt_id)
        if was_there and waiting.is_whole:
            self._spawns[attempt_id] = waiting
        return was_there

    put(WaitingSpawns, "remove", remove)


@mutant("ahead: what is asked back counts as never begun at once")
def withdrawn_unheard(put):
    original = RunsAhead.withdraw

    def withdraw(self, session):
        original(self, session)
        for run_id in list(session.worker.ahead):
            run = self._runs[run_id]
            run._owner._end(run, Outcome(Reason.GIVEN_BACK))

    put(RunsAhead, "withdraw", withdraw)


@mutant("ahead: what waits when its connection is lost counts as begun")
def ahead_as_lost(put):
    original = RemoteRunner.on_left

    def on_left(self, session):
        for run_id in session.worker.ahead:
            self._runs[run_id].has_begun = True
        original(self, session)

    put(RemoteRunner, "on_left", on_left)


@mutant("ahead: a spawn is begun, however long it was on its way")
def late_as_new(put):
    put(Session, "lateness", 0.0)
