"""The worker as an agent that pulls tasks over HTTP, as those of the second ancestor do.

Owns how many tasks there are, when it asks for another, and when it is done. What becomes of one
is `pulled.py`'s.
"""

from collections.abc import Callable
from typing import Any, Final

import trio

from remote_runner.types import Command
from simple_worker.backoff import reconnect_delay
from simple_worker.http_client import Answer, HttpClient, NoAnswer
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.processes import Processes
from simple_worker.pulled import PulledTask
from simple_worker.session import Identity

IDLE: Final = 0.5
"""Seconds between two questions while there is nothing to do."""
SHORT: Final = 2.0
"""Seconds without a question after the machine could not start a process."""
PARTING: Final = 2.0
"""Seconds that a worker which leaves at once tries to say so."""


class PullWorker:
    """Runs what a server has for agents.

    Args:
        identity: who it is. client: of the server. processes: starts children.
        rng: 0 to 1, the jitter of new tries. say: takes one line for the person who watches.
        once: leave when there is nothing to do.
    """

    def __init__(
        self,
        identity: Identity,
        client: HttpClient,
        processes: Processes,
        *,
        rng: Callable[[], float],
        say: Callable[[str], None],
        once: bool = False,
    ) -> None:
        self._identity = identity
        self._client = client
        self._processes = processes
        self._rng = rng
        self._say = say
        self._once = once
        self._tasks: set[PulledTask] = set()
        self._draining = trio.Event()
        self._ended = trio.lowlevel.ParkingLot()
        self._finished = trio.Event()
        self._life = trio.CancelScope()

    async def run(self) -> None:
        """Work until drained, or, with `once`, until there is nothing to do."""
        with self._life:
            async with trio.open_nursery() as nursery:
                await self._pull(nursery)
        self._finished.set()

    def drain(self) -> None:
        """Ask for no more; `run` returns once the server knows all ends."""
        self._draining.set()
        self._ended.unpark_all()

    async def stop(self) -> None:
        """End all that runs; `run` returns once the server knows of it, or soon if it does not."""
        self.drain()
        for task in self._tasks:
            task.abandon()
        with trio.move_on_after(PARTING):
            await self._finished.wait()
        self._life.cancel()

    async def _pull(self, nursery: trio.Nursery) -> None:
        failures = 0
        is_known = False
        while not self._draining.is_set():
            if len(self._tasks) >= self._identity.slots:
                await self._ended.park()
                continue
            answer = await self._ask()
            if isinstance(answer, str):
                failures += 1
                is_known = False
                delay = reconnect_delay(failures, self._rng)
                self._say(f"no work: {answer}; next try in {delay:.1f} s")
                await self._rest(delay)
                continue
            failures = 0
            if not is_known:
                is_known = True
                self._say(f"pulling from {self._client.url}, {self._identity.slots} slots")
            if answer.value is not None:
                await self._begin(nursery, answer.value)
            elif self._once and not self._tasks:
                self.drain()
            else:
                await self._rest(IDLE)

    async def _ask(self) -> Answer | str:
        """An answer that is a task or none; in words why there is no such."""
        who = {
            "id": self._identity.worker_id,
            "boot": self._identity.boot,
            "held": [task.number for task in self._tasks],
            "name": self._identity.name,
            "slots": self._identity.slots,
            "labels": dict(self._identity.labels),
        }
        try:
            answer = await self._client.call("POST", "/tasks/pull", who)
        except NoAnswer as error:
            return str(error)
        if answer.status in (401, 404):
            return (
                f"{self._client.url} lets this agent not in; start the server with --agent-api, or"
                " give its token with --token-file"
            )
        if not answer.is_good:
            return answer.why
        if answer.value is not None and not _is_task(answer.value):
            return f"{self._client.url} does not answer as an agent API does"
        return answer

    async def _begin(self, nursery: trio.Nursery, told: dict[str, Any]) -> None:
        child = self._processes.start(Launch(Command("bash", ("-c", told["command"]))))
        task = PulledTask(self._client, told["id"], child, self._rng, self._say)
        self._tasks.add(task)
        nursery.start_soon(self._run, task)
        if isinstance(child, SpawnFailure) and child.is_refusal:
            self._say(f"no new jobs for now: {child.line}")
            await self._rest(SHORT)

    async def _run(self, task: PulledTask) -> None:
        try:
            await task.run()
        finally:
            self._tasks.remove(task)
            self._ended.unpark_all()

    async def _rest(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._draining.wait()


def _is_task(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), int)
        and isinstance(value.get("command"), str)
    )
