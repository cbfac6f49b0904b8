"""Several servers behind the same ports: the process that starts them, and keeps them alive.

Owns their number, their ends and what is theirs together: the data directory, the token, the ports
and `server.json`. It serves nobody itself. How they are told to stop is `lifeline.py`'s.
"""

import math
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final

import structlog
import trio

from queued_runner import datadir
from queued_runner.config import Settings
from queued_runner.lifeline import VARIABLE, Place, Word
from remote_runner.listening import reserved

log = structlog.get_logger("queued_runner")

FIRST: Final = 0.5
CEILING: Final = 30.0
"""Seconds before a process that has ended is started again, at first and at most; also for how long
it has to live until it counts as a good one."""
LOOK: Final = 7.5
"""Seconds in which a process that serves says that it is there. One that does not for two in a row
hangs: others take over what it has after as long (`fleet.LEASE`), but not its share of the ports.
One look may have come to nothing because this process, or the machine, stood still."""
READ: Final = 64
LAST_MOMENT: Final = 5.0
"""Seconds that a process has to end at once, before it is killed."""


async def keep_processes(
    settings: Settings, command: Sequence[str], signals: AsyncIterator[int]
) -> int:
    """Run `settings.processes` servers until the first of `signals`; at the next they end at once.

    Returns the exit status: the greatest of theirs. One that ends before all of them have served is
    not started again: what keeps it from starting would keep the next one too.

    Args:
        settings: those of all of them.
        command: starts one, with its `Place` in the environment.
        signals: those that end the service.

    Raises:
        UnusableSettings: they cannot share what the settings say.
        DataDirUnusable: another server has the data directory.
        CannotListen: a port is in use.
    """
    settings.require_safe()
    settings.require_shareable()
    with ExitStack() as stack:
        stack.enter_context(datadir.hold(settings.data_dir))
        datadir.server_name(settings.data_dir)  # theirs, each with its number
        if settings.http_port is not None:
            datadir.read_or_create_token(settings.data_dir)

        def reserve(host: str, port: int | None) -> int | None:
            return None if port is None else stack.enter_context(reserved(host, port))

        keeper = _Keeper(
            settings,
            command,
            port=reserve(settings.host, settings.port),
            http_port=reserve(settings.http_host, settings.http_port),
            json_port=reserve(settings.host, settings.json_port),
        )
        return await keeper.run(signals)


def restart_delay(failures: int) -> float:
    """Seconds to wait after so many short lives in a row, the last one included."""
    return min(CEILING, FIRST * 2.0 ** min(failures - 1, 16))


class _Child:
    """One process that runs, and our end of its lifeline."""

    def __init__(self, process: trio.Process, link: socket.socket) -> None:
        self.process = process
        self._link = link

    def tell(self, word: Word) -> None:
        with suppress(OSError):  # it has just ended
            self._link.send(word.value)


class _Keeper:
    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        *,
        port: int | None,
        http_port: int | None,
        json_port: int | None,
    ) -> None:
        self._settings = settings
        self._command = command
        self._port = port
        self._http_port = http_port
        self._json_port = json_port
        self._children: dict[int, _Child] = {}
        self._ready: set[int] = set()
        self._first = trio.Event()
        """The first process is ready, or none will be."""
        self._all_ready = trio.Event()
        self._stopping = trio.Event()
        self._status = 0

    async def run(self, signals: AsyncIterator[int]) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey, signals)
            nursery.start_soon(self._announce)
            async with trio.open_nursery() as children:
                # The first one alone, because it may have to make, or to change, the tables.
                children.start_soon(self._keep, 1)
                await self._first.wait()
                for number in range(2, self._settings.processes + 1):
                    children.start_soon(self._keep, number)
            nursery.cancel_scope.cancel()
        return self._status

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        await anext(signals)
        log.info("stopping", processes=len(self._children))
        self._stop()
        await anext(signals)
        self._tell(Word.AT_ONCE)
        await trio.sleep(LAST_MOMENT)
        for child in self._children.values():
            child.process.kill()

    def _stop(self) -> None:
        self._stopping.set()
        self._tell(Word.STOP)

    def _tell(self, word: Word) -> None:
        for child in self._children.values():
            child.tell(word)

    async def _announce(self) -> None:
        await self._all_ready.wait()
        settings = self._settings
        facts = datadir.describe(
            settings.data_dir,
            detach=settings.detach,
            port=self._port,
            json_port=self._json_port,
            http_host=settings.http_host,
            http_port=self._http_port,
        )
        with datadir.announced(settings.data_dir, facts):
            log.info(
                "all ready",
                processes=settings.processes,
                workers=f"{settings.host}:{self._port}",
                api=facts.get("url"),
            )
            await trio.sleep_forever()

    async def _keep(self, number: int) -> None:
        """One process after the other, in this place, until all are to stop."""
        failures = 0
        while not self._stopping.is_set():
            began = trio.current_time()
            status = await self._run(number)
            if self._stopping.is_set() or not self._all_ready.is_set():
                self._status = max(self._status, status if status >= 0 else 128 - status)
                self._stop()
                break
            failures = 1 if trio.current_time() - began > CEILING else failures + 1
            delay = restart_delay(failures)
            log.warning("a process has ended", process=number, status=status, restart_in=delay)
            with trio.move_on_after(delay):
                await self._stopping.wait()
        self._first.set()

    async def _run(self, number: int) -> int:
        """One process from its start to its end: its exit status. It never outlives this."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                place = Place(number, theirs.fileno(), self._port, self._http_port, self._json_port)
                process = await trio.lowlevel.open_process(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, VARIABLE: place.to_text()},
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # a Ctrl-C of the terminal is for this process alone
                )
            ours.setblocking(False)
            self._children[number] = _Child(process, ours)
            try:
                if self._stopping.is_set():
                    self._children[number].tell(Word.STOP)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, number, process, ours)
                    await process.wait()
                    nursery.cancel_scope.cancel()
            finally:
                del self._children[number]
                if process.returncode is None:
                    ours.close()
                    await _end(process)
        assert process.returncode is not None
        return process.returncode

    async def _listen(self, number: int, process: trio.Process, link: socket.socket) -> None:
        """Hear that a process serves; end it once it hangs."""
        look, silent = math.inf, 0
        while silent < 2:
            with trio.move_on_after(look):
                await trio.lowlevel.wait_readable(link)
            try:
                if not link.recv(READ):
                    return
            except BlockingIOError:
                silent += 1
            except OSError:
                return
            else:
                look, silent = LOOK, 0
                self._see_ready(number)
        log.warning("a process hangs, and is killed", process=number)
        process.kill()

    def _see_ready(self, number: int) -> None:
        self._ready.add(number)
        self._first.set()
        if len(self._ready) == self._settings.processes:
            self._all_ready.set()


async def _end(process: trio.Process) -> None:
    """Wait for a process whose lifeline was cut, for a moment, while this task is cancelled."""
    with trio.move_on_after(LAST_MOMENT, shield=True):
        await process.wait()
    if process.returncode is None:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
