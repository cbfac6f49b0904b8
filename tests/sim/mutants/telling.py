"""Planted bugs of what is told to those who follow."""

from dataclasses import replace

from queued_runner.dispatcher import Dispatcher
from queued_runner.jobs import JobState
from tests.sim.mutants.registry import mutant


@mutant("an end is told before it is durable")
def told_early(put):
    original = Dispatcher._finish

    def finish(self, attempt, outcome, *results):
        ended = replace(attempt.job, state=JobState.SUCCEEDED)
        if outcome.is_success:
            self.events.tell_end(ended)
        original(self, attempt, outcome, *results)

    put(Dispatcher, "_finish", finish)


@mutant("an end is not told")
def end_not_told(put):
    def see_end(self, before, job):
        pass

    put(Dispatcher, "_see_end", see_end)
