"""Planted bugs of what is durable, and when that is said."""

from dataclasses import replace

import queued_runner.dispatcher
import queued_runner.log_files
import queued_runner.logs
import queued_runner.result_files
import queued_runner.results
from queued_runner.claims import Claims
from queued_runner.dispatcher import Dispatcher
from queued_runner.logs import AttemptLog, Logs
from queued_runner.results import AttemptResults
from remote_runner.results import parse_head
from remote_runner.run import RemoteRun
from simple_worker.attempts import HeldAttempt
from simple_worker.result_feed import ResultFeed
from tests.sim.mutants.registry import mutant


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
