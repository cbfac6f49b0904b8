"""Planted bugs of several servers on one queue; found with two of them."""

from dataclasses import replace

import trio

import queued_runner.fleet
import queued_runner.service
from queued_runner.dispatcher import Dispatcher
from queued_runner.fleet import Fleet
from queued_runner.store.servers import Servers
from queued_runner.store.verbs import Verbs
from remote_runner.run import RemoteRun
from remote_runner.server import Server
from tests.sim.mutants.registry import mutant


@mutant("servers: the end of an attempt counts whoever has it", servers=2)
def finish_unfenced(put):
    original = Verbs.finish

    def finish(self, job_id, *args):
        job = self.get(job_id)
        own, self._servers.own = self._servers.own, job.server
        try:
            return original(self, job_id, *args[:-1], job.handovers)
        finally:
            self._servers.own = own

    put(Verbs, "finish", finish)


@mutant("servers: an older connection of a worker takes its attempts back", servers=2)
def connections_unordered(put):
    original = Servers.admit
    put(Servers, "admit", lambda self, worker: original(self, replace(worker, connection=0)))


@mutant("servers: one is buried before its lease is over", servers=2)
def buried_early(put):
    put(queued_runner.fleet, "LEASE", queued_runner.fleet.LEASE / 2)


@mutant("servers: one that is out of reach keeps its workers", servers=2)
def no_fence(put):
    async def fence(self):
        await trio.sleep_forever()

    put(Fleet, "_fence", fence)
    put(Server, "_may_write", lambda self: True)
    # Others wait until nobody can hear any more what a server has said last, which hides the rest.
    put(queued_runner.service, "SILENT_BEATS", 0)


@mutant("servers: a new owner writes as the one before it", servers=2)
def epoch_kept(put):
    original = Verbs._take

    def take(self, *args):
        return tuple(replace(job, handovers=0) for job in original(self, *args))

    put(Verbs, "_take", take)


@mutant("servers: one that was buried goes on with what it had", servers=2)
def deposed_goes_on(put):
    put(Dispatcher, "drop_all", lambda self: None)


@mutant("servers: what a dead one had is given up at once", servers=2)
def detach_ignored(put):
    original = Servers._leave
    put(
        Servers,
        "_leave",
        lambda self, whose, own, at, detach: original(self, whose, own, at - 99, 0),
    )


@mutant("servers: a job is claimed for a worker that has moved", servers=2)
def moved_is_offered(put):
    put(Servers, "without_moved", lambda self, offers: offers)


@mutant("servers: an end that did not count is confirmed", servers=2)
def stale_is_confirmed(put):
    put(RemoteRun, "abandon", RemoteRun.forget)
