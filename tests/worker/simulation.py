"""Simulated processes and a simulated network: the real worker runs over them, in virtual time."""

import os
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import Mock

import trio
from trio.testing import memory_stream_pair

from queued_runner.testing.peer import ScriptedPeer
from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import Attempts, Hello, Ready, Welcome
from remote_runner.protocol.states import Role
from remote_runner.types import Outcome, Reason
from simple_worker.launch import SpawnFailure
from simple_worker.slots import Slots


def connected_slots(processes, count):
    """Slots whose runner answers at once."""
    slots = Slots(processes, count, "here", time.time, lambda: None)
    slots.outlet = Mock(lateness=0.0, silence=0.0, detach=120.0)
    return slots


class SimulatedChild:
    """Runs a program, which is an async function of this child that returns its exit code."""

    def __init__(self, pid, launch, program):
        self.pid = pid
        self.launch = launch
        self.kills = []
        self._program = program
        self.size = 0
        self.results = None
        self._life = trio.CancelScope()

    def kill(self, reason, signal=None, grace=None):
        self.kills.append((reason, signal, grace))
        self._life.cancel()

    async def write(self, data, stream="stdout"):
        limit = self.launch.command.max_output
        kept = data if limit is None else data[: max(0, limit - self.size)]
        self.size += len(data)
        if kept:
            await self._on_output(stream, kept)
        await trio.lowlevel.checkpoint()  # as the real one: a flood keeps nobody from running

    def watch(self, then):
        then(None)

    async def run(self, on_output, max_chunk):
        self._on_output = on_output
        with self._life:
            code = await self._program(self)
        if self._life.cancelled_caught:
            reason, name, _ = self.kills[0]
            return Outcome(reason, signal=name or "SIGTERM", output_bytes=self.size)
        return Outcome(Reason.EXIT, code, output_bytes=self.size)


class AtOnce:
    """Of a machine whose commands execute as soon as they `start`."""

    def begin(self, launch, then):
        then(self.start(launch))
        return True

    def settle(self):
        pass


class SimulatedProcesses(AtOnce):
    """A machine that knows the programs of a test by name."""

    def __init__(self):
        self.programs = {}
        self.told_contact = []
        self.children = []

    def tell_contact(self, ago):
        self.told_contact.append(ago)

    def start(self, launch):
        program = self.programs.get(launch.command.command)
        if program is None:
            return SpawnFailure(127, f"{launch.command.command}: command not found on this worker")
        self.children.append(SimulatedChild(100 + len(self.children), launch, program))
        return self.children[-1]


class SimulatedDisk:
    """Stands in the place of `os` for the spool: the real files, until `error` is set."""

    def __init__(self):
        self.error = None
        """The number of what each write fails with."""
        self.read_error = None
        """The same of each read."""
        self.free = 10**12
        self.writes = 0

    def __getattr__(self, name):
        return getattr(os, name)

    async def in_thread(self, act, *args):
        await trio.lowlevel.checkpoint()
        return act(*args)

    def pwrite(self, descriptor, data, offset):
        if self.error is not None:
            # As a disk that becomes full does: the beginning is there.
            os.pwrite(descriptor, data[: len(data) // 2], offset)
            raise OSError(self.error, os.strerror(self.error))
        self.writes += 1
        return os.pwrite(descriptor, data, offset)

    def pread(self, descriptor, size, offset):
        if self.read_error is not None:
            raise OSError(self.read_error, os.strerror(self.read_error))
        return os.pread(descriptor, size, offset)

    def statvfs(self, path):
        return SimpleNamespace(
            f_frsize=4096, f_blocks=2 * 10**12 // 4096, f_bavail=self.free // 4096
        )


class Dialled:
    """The runner's end of a connection that the worker has dialled."""

    def __init__(self, stream):
        self.stream = stream

    @asynccontextmanager
    async def peer(self):
        async with DuplexEmitter(self.stream, Connection(Role.RUNNER)) as emitter:
            yield ScriptedPeer(emitter)


class Network:
    """Where the worker dials; every call waits here to be answered."""

    def __init__(self):
        self._send, self._calls = trio.open_memory_channel(100)
        self.is_up = True
        self.connect_hangs = False

    async def connect(self):
        if not self.is_up:
            raise OSError("the network is down")
        if self.connect_hangs:
            await trio.sleep_forever()
        ours, theirs = memory_stream_pair()
        await self._send.send(theirs)
        return ours

    async def answer(self):
        """The next connection."""
        return Dialled(await self._calls.receive())

    async def hang_up(self):
        """Cut off all who wait to be answered; who has given up may be among them."""
        while self._calls.statistics().current_buffer_used:
            await trio.aclose_forcefully((await self.answer()).stream)

    @asynccontextmanager
    async def welcome(
        self, *, detach_ms=120_000, heartbeat_ms=10_000, max_chunk=65536, server_id="s"
    ):
        """Answer the next call and welcome the worker; leaving cuts the connection."""
        async with (await self.answer()).peer() as runner:
            runner.hello = await runner.hear(Hello)
            await runner.say(Welcome(1, server_id, 1, heartbeat_ms, detach_ms, max_chunk))
            yield runner

    @asynccontextmanager
    async def ready(self, **welcome):
        """As `welcome`, up to the worker's `ready`."""
        async with self.welcome(**welcome) as runner:
            first = await runner.hear((Attempts, Ready))
            runner.listed = first.items if isinstance(first, Attempts) else ()
            runner.ready = first if isinstance(first, Ready) else await runner.hear(Ready)
            yield runner
