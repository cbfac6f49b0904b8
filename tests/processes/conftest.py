"""Several processes behind one port, kept by this process or by one of its own."""

import json
import os
import subprocess
import sys

import pytest
import trio

from queued_runner.config import Settings
from queued_runner.processes import keep_processes
from tests.commands import PATIENCE, ROOT, is_alive

SHARED = "postgresql://nobody@127.0.0.1:1/none"
"""A store that several may share; nothing here opens it."""


def server(*manners):
    """The command of a process that shares the port."""
    return [sys.executable, "-m", "tests.processes.server", *manners]


async def until(holds):
    with trio.fail_after(PATIENCE):
        while not holds():
            await trio.sleep(0.01)


async def who_answers(port):
    """The number and the pid of the process that the kernel gives a new connection to."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        number, pid = (await stream.receive_some(100)).split()
    return int(number), int(pid)


class Kept:
    """A data directory whose servers are kept by `start`, until the test ends."""

    def __init__(self, folder, nursery):
        self.folder = folder
        self._nursery = nursery
        self._signals, self._receive = trio.open_memory_channel(10)
        self.status = None
        self.ended = trio.Event()

    def start(self, command, processes=2, **settings):
        options = {"port": 0, "http_port": None, "store": SHARED, **settings}
        settings = Settings(self.folder, processes=processes, **options)
        self._nursery.start_soon(self._run, settings, command)

    async def _run(self, settings, command):
        self.status = await keep_processes(settings, command, self._receive)
        self.ended.set()

    def signal(self):
        self._signals.send_nowait(15)

    @property
    def facts(self):
        return json.loads((self.folder / "server.json").read_text())

    async def ready(self):
        file = self.folder / "server.json"
        await until(lambda: file.exists() or self.ended.is_set())
        assert file.exists()
        return self.facts["port"]

    async def everybody(self, count=2):
        """The pids of all processes, by their numbers, as they answer."""
        found = {}
        with trio.fail_after(PATIENCE):
            while len(found) < count:
                number, pid = await who_answers(self.facts["port"])
                found[number] = pid
        return found

    async def end(self):
        with trio.fail_after(PATIENCE):
            await self.ended.wait()
        return self.status


@pytest.fixture
async def kept(tmp_path, monkeypatch, nursery):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("queued_runner.processes.FIRST", 0.01)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    return Kept(tmp_path / "state", nursery)


@pytest.fixture
def keeper(tmp_path):
    """Starts `keep_processes` as a process, which is gone after the test."""
    started = []

    def start(*command, processes=2):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.keeper", tmp_path / "state", str(processes),
             *command],
            cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONWARNINGS": "error"},
            process_group=0,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


async def gone(pids):
    await until(lambda: not any(is_alive(pid) for pid in pids))
