"""Small, realistic bugs, put into the product by patches: the simulator must find each of them.

`python -m tests.sim.mutants` prints which seed is the first to find which, and what it violates.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import trio

import queued_runner.dispatcher
import queued_runner.log_files
import queued_runner.logs
import queued_runner.result_files
import queued_runner.results
import simple_worker.slots
import simple_worker.worker
from queued_runner.dependants import Dependants
from queued_runner.claims import Claims
from queued_runner.dispatcher import Dispatcher
from queued_runner.fleet import Fleet
from queued_runner.jobs import JobState
from queued_runner.logs import AttemptLog, Logs
from queued_runner.results import AttemptResults
from queued_runner.store.dependencies import Dependencies
from queued_runner.store.servers import Servers
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.protocol.messages import Stale
from remote_runner.results import parse_head
from remote_runner.run import RemoteRun
from remote_runner.runner import RemoteRunner
from remote_runner.server import Server
from remote_runner.session import Session
from remote_runner.types import Outcome, Reason
from simple_worker.attempts import HeldAttempt
from simple_worker.result_feed import ResultFeed
from simple_worker.slots import Slots
from simple_worker.spool import Spool
from simple_worker.window import Window
from tests.sim.taps import installed
from tests.sim.world import run

MUTANTS: dict[str, Callable] = {}
"""By name: puts the bug in, given `put(target, name, value)`."""


SERVERS: dict[str, int] = {}
"""How many servers every seed has for a bug, where it does not say so itself."""

MISFIT = re.compile(r"\b(TypeError|AttributeError|NameError)\(|values to unpack")
"""What a patch fails with when the code that it was written for has changed."""


def mutant(name, servers=None):
    """Register what puts this bug in."""

    def register(function):
        MUTANTS[name] = function
        if servers is not None:
            SERVERS[name] = servers
        return function

    return register


# --- what is durable, and when that is said ---


@mutant("output is acknowledged before it is synced")
def ack_before_sync(put):
    original = AttemptLog.append

    def append(self, stream, data):
        original(self, stream, data)
        self._on_durable(self.size)

    put(AttemptLog, "append", append)


@mutant("all output is acknowledged when only the first part is synced")
def ack_all(put):
    original = AttemptLog.synced

    def synced(self, records):
        original(self, records)
        self._on_durable(self.size)

    put(AttemptLog, "synced", synced)


@mutant("an acknowledgement is one byte too high")
def ack_one_more(put):
    original = RemoteRun.ack
    put(RemoteRun, "ack", lambda self, offset: original(self, offset + 1))


@mutant("the sync is left out")
def no_sync(put):
    put(queued_runner.log_files.os, "fdatasync", lambda file: None)


@mutant("an end is confirmed before its commit")
def closed_before_commit(put):
    original = Dispatcher._finish

    def finish(self, attempt, *end):
        if attempt.run is not None:
            attempt.run.forget()
        original(self, attempt, *end)

    put(Dispatcher, "_finish", finish)


@mutant("results are not synced before they count")
def results_unsynced(put):
    put(queued_runner.result_files.ResultFolder, "keep", lambda self, file: None)


@mutant("results that are not whole are kept")
def results_in_part(put):
    original = AttemptResults._checked

    def checked(self, begin, size, *, inline):
        start = begin.find(b"\n") + 1
        whole = start + parse_head(begin[:start]).size if start else size
        return original(self, begin, whole, inline=inline)

    put(AttemptResults, "_checked", checked)


@mutant("a new server asks only for the rest of results that came to the one before")
def results_not_afresh(put):
    original = Dispatcher.adopt

    def adopt(self, run, size):
        adoption = original(self, run, size)
        return None if adoption is None else replace(adoption, results=100)

    put(Dispatcher, "adopt", adopt)


@mutant("results are sent again from a byte too far")
def results_one_too_far(put):
    original = ResultFeed.resume
    put(ResultFeed, "resume", lambda self, offset: original(self, offset + (offset > 0)))


@mutant("results are forgotten with the connection")
def results_forgotten(put):
    original = HeldAttempt.resume

    def resume(self, offset, results=0):
        original(self, offset, results)
        self._results = None

    put(HeldAttempt, "resume", resume)


@mutant("an attempt is started before its claim is committed")
def start_before_commit(put):
    original = Claims._claim

    def claim(self, *args):
        found = original(self, *args)
        self._then(found.jobs)
        return found._replace(jobs=[])

    put(Claims, "_claim", claim)


@mutant("the torn end of a file counts after a crash")
def torn_tail(put):
    log_files = queued_runner.log_files
    original = log_files.recover

    def recover(folder, epoch):
        left = log_files._segments(folder)[-1:]  # by those before: this one begins its own
        size = original(folder, epoch)
        for newest in left:
            data = (folder / newest.name).read_bytes()
            torn = len(data) - log_files.decode_records(data, newest.start)[1]
            size += max(0, torn - log_files._HEADER.size)
        return size

    put(log_files, "recover", recover)


@mutant("what a later server has written is not read")
def epoch_not_read(put):
    original = queued_runner.log_files._segments

    def segments(folder):
        found = original(folder)
        return [each for each in found if each.epoch == found[0].epoch]

    put(queued_runner.log_files, "_segments", segments)


@mutant("a later server writes on in the file of an earlier one")
def epochs_forgotten(put):
    original = Logs.open

    def open_(self, job_id, attempt, offset, cap, on_durable, epoch=0):
        return original(self, job_id, attempt, offset, cap, on_durable)

    put(Logs, "open", open_)


@mutant("output that an earlier server stored is forgotten at a restart")
def forget_recovered(put):
    async def recover(self, job_id, attempt, epoch):
        return 0

    put(Logs, "recover", recover)


# --- offsets and windows ---


@mutant("a worker frees what has only arrived")
def free_early(put):
    original = Window.resume

    def resume(self, offset):
        self.ack(offset)
        original(self, offset)

    put(Window, "resume", resume)


@mutant("a worker resumes one byte too late")
def resume_late(put):
    original = Window.resume
    put(Window, "resume", lambda self, offset: original(self, offset + 1 if offset else 0))


@mutant("a server asks to resume from what is durable, not from what it has")
def resume_from_acked(put):
    original = RemoteRunner._attach

    def attach(self, run, session):
        received, run.received = run.received, run.acked
        original(self, run, session)
        run.received = max(received, run.received)

    put(RemoteRunner, "_attach", attach)
    overlap_stored(put)


@mutant("overlapping output is stored twice")
def overlap_stored(put):
    original = RemoteRunner.on_output

    def on_output(self, session, message):
        run = self._runs.get(message.id)
        if run is not None and message.offset < run.received:
            message = replace(message, offset=run.received)
        original(self, session, message)

    put(RemoteRunner, "on_output", on_output)


@mutant("a gap in the output is not noticed")
def gap_ignored(put):
    original = RemoteRunner.on_output

    def on_output(self, session, message):
        run = self._runs.get(message.id)
        if run is not None and message.offset > run.received:
            message = replace(message, offset=run.received)
        original(self, session, message)

    put(RemoteRunner, "on_output", on_output)
    resume_late(put)


@mutant("an acknowledgement that a cut has swallowed is not repeated")
def ack_not_repeated(put):
    original = RemoteRunner._attach

    def attach(self, run, session):
        acked, run.acked = run.acked, 0
        original(self, run, session)
        run.acked = acked
        session.unacked -= acked

    put(RemoteRunner, "_attach", attach)


@mutant("output that waits for its sync when the run ends blocks its connection for ever")
def credit_leak(put):
    original = RemoteRunner._end

    def end(self, run, outcome):
        run.acked = run.received
        original(self, run, outcome)

    put(RemoteRunner, "_end", end)


@mutant("a server reads on although too much is not acknowledged")
def reads_on(put):
    put(Session, "_is_above_mark", lambda self: False)


@mutant("a worker reads on although its window is full")
def window_unbounded(put):
    async def wait_for_room(self):
        await trio.lowlevel.checkpoint()

    put(Spool, "wait_for_room", wait_for_room)


# --- ends ---


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


# --- leases ---


@mutant("a worker does not stop its attempts before they are given up")
def no_fence(put):
    put(simple_worker.worker, "FENCE", 10.0)


@mutant("a worker counts its time without contact from its welcome")
def fence_from_welcome(put):
    original = simple_worker.session.Session.last_contact.fget

    def last_contact(self):
        if not hasattr(self, "_first_contact"):
            self._first_contact = original(self)
        return self._first_contact

    put(simple_worker.session.Session, "last_contact", property(last_contact))


@mutant("a lease goes on over a restart of the server")
def lease_not_restarted(put):
    original = Servers.bury_others
    put(Servers, "bury_others", lambda self, at, detach: original(self, at - detach, detach))


@mutant("what an earlier server started is never given up")
def never_expires(put):
    async def never(self):
        await trio.sleep_forever()

    put(Dispatcher, "expire", never)
    put(Fleet, "_rescue", never)


@mutant("an old connection of a worker lives on beside the new one")
def old_session_stays(put):
    put(Server, "_end_previous", lambda self, worker_id, why: None)


@mutant("silence of a worker is not noticed")
def silence_unnoticed(put):
    async def keep_alive(self):
        await trio.sleep_forever()

    put(Server, "keep_alive", keep_alive)
    put(simple_worker.session.Session, "_keep_alive", lambda self, heartbeat: trio.sleep_forever())


# --- jobs ---


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


# --- jobs that come after others ---


@mutant("a job is let go when the first of those that it comes after succeeds")
def first_is_enough(put):
    original = Dependencies._release

    def release(self, waiting):
        self._db.execute(
            "UPDATE jobs SET waits_for = 1 WHERE waits_for > 1"
            " AND id IN (SELECT value FROM json_each(?))",
            (json.dumps(waiting),),
        )
        return original(self, waiting)

    put(Dependencies, "_release", release)


@mutant("a failure lets those go that wait for it")
def failure_releases(put):
    put(Dependencies, "_strand", lambda self, waiting, now: self._release(waiting) and [])


@mutant("who waits for one that has failed by itself is not told by the next server")
def debts_forgotten(put):
    original = Dependants.tell_all

    def tell_all(self):
        if hasattr(self, "_has_begun"):
            original(self)
        self._has_begun = True

    put(Dependants, "tell_all", tell_all)


@mutant("only as many dependants are told as one commit has time for")
def rest_not_told(put):
    original = Dependants.see

    def see(self, settled):
        original(self, replace(settled, is_all=True))

    put(Dependants, "see", see)


@mutant("a success that comes twice counts twice")
def success_counts_twice(put):
    original = Dependencies._close

    def close(self, job_id, dependants):
        original(self, job_id, dependants)
        return dependants

    put(Dependencies, "_close", close)


@mutant("a job that is revived does not wait for what it comes after")
def revived_without_look(put):
    put(Dependencies, "look_again", lambda self, job_id, after, now: None)


@mutant("a follower's place is forgotten when output becomes durable")
def follower_doubles(put):
    def pending_from(log, offset):
        return list(log.pending)

    put(queued_runner.logs, "_pending_from", pending_from)


# --- what is told ---


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


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="WORD", help="only bugs whose name has it")
    parser.add_argument("--seeds", type=int, default=2000, help="how many are tried at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    options = parser.parse_args()
    names = [n for n in MUTANTS if not options.names or any(word in n for word in options.names)]
    missed = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for found in pool.map(partial(find, seeds=range(options.seeds)), names):
            seed = "none" if found.seed is None else str(found.seed)
            text = f"the patch is stale: {found.text}" if found.is_stale else found.text
            print(f"{found.name:<88} {seed:>5}  {found.code:<4} {text}", flush=True)
            if not found.is_found:
                missed.append(found.name)
    print(f"{len(names) - len(missed)} of {len(names)} bugs found")
    return int(bool(missed))


if __name__ == "__main__":
    # By its name: this file is another module where it is run, with bugs of its own.
    from tests.sim import ahead_mutants, server_mutants, wide_mutants  # noqa: F401, they register

    sys.exit(server_mutants.main())
