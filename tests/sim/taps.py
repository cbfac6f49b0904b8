"""Puts the simulation in the place of clock, threads, network and disk; and listens.

The product knows nothing of it: everything here is a patch, taken back afterwards.
"""

import os
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import structlog
import trio

import queued_runner.fleet
import queued_runner.log_files
import queued_runner.logs
import queued_runner.result_files
import queued_runner.results
import queued_runner.service
import queued_runner.store.dependencies
import queued_runner.stores
import remote_runner.emitter
import remote_runner.session
import simple_worker.result_feed
import simple_worker.slots
import simple_worker.spool
import simple_worker.spool_files
import simple_worker.window
import simple_worker.worker
from queued_runner.datadir import ServerName
from queued_runner.events import Events
from queued_runner.hints import NoHints
from queued_runner.logs import Logs
from queued_runner.stores import OpenStore
from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.runner import RemoteRunner
from remote_runner.session import Session
from tests.sim import actors
from tests.sim.actors import local_trio
from tests.sim.bus import SimHints
from tests.sim.disk import SimStore
from tests.sim.scenario import LEASE

SMALL = {
    (queued_runner.fleet, "LEASE"): LEASE,
    (queued_runner.logs, "INLINE_LIMIT"): 300,
    (queued_runner.log_files, "SEGMENT_SIZE"): 1000,
    (queued_runner.log_files, "READ_SIZE"): 400,
    (queued_runner.results, "INLINE_LIMIT"): 300,
    (queued_runner.results, "READ_SIZE"): 400,
    (remote_runner.session, "UNACKED_MARK"): 600,
    (remote_runner.session, "UNACKED_PER_RUN"): 300,
    (remote_runner.emitter, "MAX_OUTPUT_PENDING"): 1000,
    (remote_runner.emitter, "WRITE_SIZE"): 500,
    (remote_runner.emitter, "RECEIVE_SIZE"): 400,
    (queued_runner.store.dependencies, "BUDGET"): 1,
    (queued_runner.store.dependencies, "JOB_COST"): 1,
    (simple_worker.window, "WINDOW"): 1500,
    (simple_worker.window, "BLOCK"): 200,
    (simple_worker.window, "BLOCK_COST"): 8,
    (simple_worker.slots, "READ"): 150,
    (simple_worker.result_feed, "READ"): 150,
    (simple_worker.spool, "BLOCK"): 200,
    (simple_worker.spool, "BATCH"): 500,
    (simple_worker.spool_files, "BLOCK"): 200,
    (simple_worker.spool_files, "BATCH"): 500,
    (simple_worker.spool_files, "SEGMENT"): 1200,
}
"""Limits that a few kilobytes of output reach; between them they are as the real ones are."""


@contextmanager
def installed():
    """While entered, whatever runs is simulated, by the world of its actor."""
    with ExitStack() as stack:

        def put(target, name, value):
            stack.enter_context(patch.object(target, name, value))

        for (module, name), value in SMALL.items():
            put(module, name, value)
        put(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        put(trio._core._run, "_r", trio._core._run._r)
        put(trio._core._run.Runner, "reschedule", _reschedule(trio._core._run.Runner.reschedule))
        put(trio.to_thread, "run_sync", _run_sync)
        put(trio, "open_tcp_listeners", _listen)
        local = local_trio()
        for name, module in list(sys.modules.items()):
            if name.startswith("simple_worker.") or module is remote_runner.emitter:
                if getattr(module, "trio", None) is trio:
                    put(module, "trio", local)
        _put_server(put)
        put(Connection, "send", _tap_send(Connection.send))
        put(Connection, "receive_data", _tap_receive(Connection.receive_data))
        put(Events, "tell", _tap_tell(Events.tell))
        put(DuplexEmitter, "__init__", _listed(DuplexEmitter.__init__, "emitters"))
        put(RemoteRunner, "_lose", _tap_lose(RemoteRunner._lose))
        put(Session, "__init__", _listed(Session.__init__, "sessions"))
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(processors=[_on_log])
        yield


def _put_server(put):
    service = queued_runner.service
    put(service, "opened_store", _opened_store)
    put(service, "secrets", SimpleNamespace(token_hex=lambda size: _world().new_id()))
    put(service.datadir, "server_name", lambda folder: ServerName(folder.name, folder.name))
    put(service, "Logs", partial(Logs, now=_wall))
    put(service, "time", SimpleNamespace(time=_wall))
    put(service, "random", SimpleNamespace(random=lambda: _world().jitter.random()))
    put(service.datadir, "hold", lambda folder: nullcontext())
    put(queued_runner.log_files, "os", _SimOs())
    put(queued_runner.result_files, "os", _SimOs())


@contextmanager
def _opened_store(settings):
    world = _world()
    hints = SimHints(world.bus) if world.is_shared else NoHints()
    yield OpenStore(SimStore(world), SimStore(world), 1, world.is_shared, hints)


class _SimOs(ModuleType):
    """The module `os`, but for its syncs, and that it is known who makes a file."""

    def __init__(self):
        super().__init__("os")
        self.__dict__.update(os.__dict__)
        self.__dict__.update(fdatasync=_sync, fsync=_sync, open=_open)


def _open(path, flags, mode=0o777):
    return _world().files.open(path, flags, mode)


def _sync(file):
    _world().files.sync(file)


def _world():
    return actors.current.get().world


def _wall():
    return _world().wall()


def _reschedule(original):
    def reschedule(self, task, *args):
        original(self, task, *args)
        actor = task.context.get(actors.current)
        if actor is not None and actor.is_still:
            actor.hold_back(self.runq.pop())

    return reschedule


async def _run_sync(function, *args, limiter=None, abandon_on_cancel=False):
    await trio.lowlevel.checkpoint_if_cancelled()
    return await _world().use_disk(partial(function, *args))


async def _listen(port, *, host=None):
    return await _world().network.listen(port, host=host)


def _listed(original, name):
    def init(self, *args):
        original(self, *args)
        getattr(_world(), name).append(self)

    return init


def _tap_send(original):
    def send(self, message):
        data = original(self, message)
        _world().on_sent(message)
        return data

    return send


def _tap_receive(original):
    def receive_data(self, data):
        if actors.current.get().is_on:
            _world().checks.on_read(self)
        messages = original(self, data)
        return [_world().on_received(message) for message in messages]

    return receive_data


def _tap_lose(original):
    def lose(self, run):
        _world().checks.on_given_up(actors.current.get(), run.id)
        original(self, run)

    return lose


def _tap_tell(original):
    def tell(self, kind, job, group, names, values, *mask):
        actor = actors.current.get()
        if actor.is_on and job is not None:
            _world().checks.on_event(actor, kind, job, dict(zip(names, values, strict=True)))
        original(self, kind, job, group, names, values, *mask)

    return tell


def _on_log(logger, method, event):
    """A line of the product's log: an error is one that nobody expects."""
    facts = " ".join(f"{key}={value}" for key, value in event.items() if key != "exc_info")
    world, actor = _world(), actors.current.get()
    if actor.is_on:
        world.note("logs", facts)
        if method in ("error", "exception", "critical"):
            world.fail("I0", f"{actor.name} logs: {facts} {event.get('exc_info', '')!r}")
    raise structlog.DropEvent
