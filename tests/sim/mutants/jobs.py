"""Planted bugs of jobs: their states, retries, cancels and keys."""

from dataclasses import replace

import queued_runner.dispatcher
from queued_runner.dispatcher import Dispatcher
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.runner import RemoteRunner
from remote_runner.types import Reason
from simple_worker.slots import Slots
from tests.sim.mutants.registry import mutant


@mutant("a cancel is forgotten at a restart of the server")
def cancel_forgotten(put):
    original = Dispatcher.adopt

    def adopt(self, run, size):
        attempt = self.live.named(run.id)
        if attempt is not None:
            attempt.job = replace(attempt.job, cancel_requested=False)
        return original(self, run, size)

    put(Dispatcher, "adopt", adopt)


@mutant("a child that ends in silence keeps its slot")
def quiet_keeps_slot(put):
    original = Slots._leave_quiet

    def leave_quiet(self, held, child, outcome):
        original(self, held, child, outcome)
        self._running += outcome is not None

    put(Slots, "_leave_quiet", leave_quiet)


@mutant("a kill is not repeated after a reconnection")
def kill_not_repeated(put):
    original = RemoteRunner._attach

    def attach(self, run, session):
        run.kill_order = None
        original(self, run, session)

    put(RemoteRunner, "_attach", attach)


@mutant("an old attempt is adopted as the newest of its job")
def fence_dropped(put):
    original = Dispatcher.adopt

    def adopt(self, run, size):
        job, _, _ = run.id.partition(".")
        known = self.live.of_job(int(job))
        if known is not None and known.run is None and self.live.named(run.id) is None:
            self.live._by_id[run.id] = known
            known.job = replace(known.job, worker_id=run.worker_id)
        return original(self, run, size)

    put(Dispatcher, "adopt", adopt)


@mutant("a job is retried although it was cancelled")
def cancelled_is_retried(put):
    original = queued_runner.dispatcher.decide

    def decide(job, outcome, now, rng):
        return original(replace(job, cancel_requested=False), outcome, now, rng)

    put(queued_runner.dispatcher, "decide", decide)


@mutant("a refusal spends a retry")
def refusal_spends(put):
    original = queued_runner.dispatcher.decide

    def decide(job, outcome, now, rng):
        decision = original(job, outcome, now, rng)
        refused = outcome.reason is Reason.REFUSED and not job.cancel_requested
        return replace(decision, is_failure=True) if refused else decision

    put(queued_runner.dispatcher, "decide", decide)


@mutant("there is one retry too many")
def one_retry_more(put):
    original = queued_runner.dispatcher.decide

    def decide(job, outcome, now, rng):
        spec = job.spec.model_copy(update={"retries": job.spec.retries + 1})
        return original(replace(job, spec=spec), outcome, now, rng)

    put(queued_runner.dispatcher, "decide", decide)


@mutant("a lost job that may not begin twice begins again")
def on_lost_ignored(put):
    original = queued_runner.dispatcher.decide

    def decide(job, outcome, now, rng):
        spec = job.spec.model_copy(update={"on_lost": "retry"})
        return original(replace(job, spec=spec), outcome, now, rng)

    put(queued_runner.dispatcher, "decide", decide)


@mutant("an end that is written once more has no fence")
def store_fence_dropped(put):
    original, finish, on_claimed = SQLiteStore.finish, Dispatcher._finish, Dispatcher._on_claimed
    ends = []

    def without_fence(self, job_id, attempt, *args):
        return original(self, job_id, self.get(job_id).attempt, *args)

    def remember(self, *end):
        ends.append((self, end))
        finish(self, *end)

    def once_more(self, jobs):
        on_claimed(self, jobs)
        mine = [end for who, end in ends if who is self]
        ends.clear()
        for end in mine:
            finish(self, *end)

    put(SQLiteStore, "finish", without_fence)
    put(Dispatcher, "_finish", remember)
    put(Dispatcher, "_on_claimed", once_more)


@mutant("a cancel overwrites the end of a job")
def terminal_overwritten(put):
    original = SQLiteStore.cancel

    def cancel(self, job_id, *args):
        self._db.execute("UPDATE jobs SET reason = 'cancelled' WHERE id = ?", (job_id,))
        return original(self, job_id, *args)

    put(SQLiteStore, "cancel", cancel)


@mutant("a key is not kept with its job")
def key_ignored(put):
    original = SQLiteStore.add

    def add(self, specs, now):
        added = original(self, specs, now)
        self._db.executemany("UPDATE jobs SET key = NULL WHERE id = ?", [(i,) for i in added.ids])
        return added

    put(SQLiteStore, "add", add)
