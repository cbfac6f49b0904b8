"""Real children for tests: run to the end with all they write, and what is alive afterwards."""

from contextlib import suppress
from pathlib import Path

import trio

from remote_runner.types import Command
from simple_worker.launch import Launch, SpawnFailure

PATIENCE = 20.0
"""Seconds that a test waits for what takes no time, on a machine that is busy with other work."""


class Running:
    """A child that was started, and what it has written so far."""

    def __init__(self, child):
        self.child = child
        self.chunks = []
        self.outcome = None

    async def run(self, max_chunk=65536):
        """As a worker's slot has it: watched, until somebody must attend to it."""

        async def keep(stream, data):
            self.chunks.append((stream, data))

        told = trio.Event()

        def tell(outcome):
            self.outcome = outcome
            told.set()

        self.child.watch(tell)
        try:
            await told.wait()
        finally:
            if self.outcome is None:
                self.outcome = await self.child.run(keep, max_chunk)
        return self.outcome

    def text(self, stream=None):
        return b"".join(data for name, data in self.chunks if stream in (None, name)).decode()


def start(processes, *argv, uid=None, gid=None, full_env=None, **options):
    """A command that must start."""
    child = processes.start(
        Launch(Command(argv[0], argv[1:], **options), full_env=full_env, uid=uid, gid=gid)
    )
    assert not isinstance(child, SpawnFailure), child
    return Running(child)


async def run(processes, *argv, **options):
    """A command, from its start to its outcome."""
    running = start(processes, *argv, **options)
    with trio.fail_after(PATIENCE):
        await running.run()
    return running


async def until(condition):
    """Wait until a condition of the machine holds."""
    with trio.fail_after(PATIENCE):
        while not condition():
            await trio.sleep(0.01)


async def pids_in(file, count):
    """The process ids that jobs write into a file, once all are there."""
    await until(lambda: file.exists() and len(file.read_text().split()) == count)
    return [int(pid) for pid in file.read_text().split()]


def processes_with(text):
    """The processes of this machine that have a text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found
