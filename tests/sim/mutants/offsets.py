"""Planted bugs of offsets and windows."""

from dataclasses import replace

import trio

from remote_runner.runner import RemoteRunner
from remote_runner.session import Session
from simple_worker.spool import Spool
from simple_worker.window import Window
from tests.sim.mutants.registry import mutant


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
