"""Planted bugs of leases, and of what nobody comes back for."""

import trio

import simple_worker.worker
from queued_runner.dispatcher import Dispatcher
from queued_runner.fleet import Fleet
from queued_runner.store.servers import Servers
from remote_runner.server import Server
from tests.sim.mutants.registry import mutant


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
