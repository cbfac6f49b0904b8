"""Planted bugs of jobs that come after others."""

import json
from dataclasses import replace

import queued_runner.logs
from queued_runner.dependants import Dependants
from queued_runner.store.dependencies import Dependencies
from tests.sim.mutants.registry import mutant


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
