"""The API of the second ancestor, whose agents pull tasks and send output and ends over HTTP.

It owns the routes below `/tasks`, and what their answers are; what is sent stands in
`agent_bodies.py`. What ours say beyond the ancestor's contract is optional here, and theirs ignore
what we add. It decides nothing about tasks.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import trio
from fastapi import APIRouter, Path, Request
from outcome import Error, Outcome, Value, acapture
from starlette.responses import Response

from queued_runner.agents.agent import Agent
from queued_runner.agents.chunks import TooEarly, TooLate
from queued_runner.agents.runner import AgentRunner
from queued_runner.agents.tasks import Report, Task, TaskOver, UnknownTask
from queued_runner.http.agent_bodies import (
    MAX_TOLD,
    Body,
    Chunk,
    HeartbeatRequest,
    Invalid,
    Malformed,
    PullRequest,
    StatusRequest,
    decode,
)
from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem
from queued_runner.http.render import json_response, rfc3339

AGENT_PREFIX: Final = "/tasks/"
MAX_CHUNK: Final = 4 * 1024 * 1024
"""Bytes of one chunk; the contract's are of 512 KiB, and a long line more."""

TaskId = Annotated[int, Path(ge=1, le=(1 << 53) - 1)]

Told = TypeVar("Told", PullRequest, StatusRequest, HeartbeatRequest)


class _Refused(Exception):
    """The request is answered with this."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class _Answering(StrictRoute):
    """A route whose refusals are answers."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except _Refused as refused:
                return refused.response
            except UnknownTask as error:
                return problem(404, _sentence(error))
            except (TaskOver, TooLate) as error:
                return problem(409, _sentence(error))
            except TooEarly as error:
                return problem(503, _sentence(error), {"Retry-After": "1"})

        return answer


def build_agent_routes(agents: AgentRunner, shutdown: trio.Event) -> APIRouter:
    """The routes over these agents."""
    router = APIRouter(prefix="/tasks", tags=["agents"], route_class=_Answering)

    @router.post("/pull")
    async def pull(request: Request) -> Response:
        """A task to run as `bash -c COMMAND`, or `null`."""
        told = _told(PullRequest, await request.body())
        address = request.client.host if request.client is not None else ""
        who = Agent(address=address)
        if told.id is not None:
            name = told.name or told.id
            who = Agent(told.id, told.boot, told.held, name, told.slots, told.labels, address)
        task = await _pull(agents, who, request)
        if task is None:
            return json_response(None)
        now = rfc3339(time.time())
        return json_response(
            {
                "id": task.id,
                "command": task.command,
                "status": "in_progress",
                "createdAt": now,
                "updatedAt": now,
                "deletedAt": None,
            }
        )

    @router.post("/{task}/logs")
    async def take_output(task: TaskId, request: Request) -> Response:
        """A chunk of output; answered once it is on disk."""
        chunk = _decoded(Chunk, await request.body())
        data = chunk.data()
        if len(data) > MAX_CHUNK:
            raise _Refused(
                problem(413, f"A chunk may have {MAX_CHUNK:,} bytes; send the rest in another.")
            )
        await agents.take(task, chunk.kind, chunk.index, data)
        return json_response({})

    @router.patch("/{task}/status")
    async def end(task: TaskId, request: Request) -> Response:
        """How a task has ended; answered once that is on disk."""
        told = _told(StatusRequest, await request.body())
        report = Report(told.status, told.reason, told.exit_code, told.signal, told.complete)
        await agents.report(task, report)
        return json_response({})

    @router.post("/{task}/heartbeat")
    async def renew(task: TaskId, request: Request) -> Response:
        """Renew the lease of a task. `cancel` in the answer: end it."""
        told = _told(HeartbeatRequest, await request.body())
        await agents.recall(task)
        run = agents.heartbeat(task)
        if told.wait:
            await _first(run.killed.wait, shutdown.wait, seconds=told.wait)
        if run.kill_order is None:
            return json_response({})
        signal, grace = run.kill_order
        return json_response({"cancel": True, "signal": signal, "grace": grace})

    return router


async def _pull(agents: AgentRunner, who: Agent, request: Request) -> Task | None:
    """What this agent gets; nothing if it is gone by the time that there is something."""
    pulled: Outcome[Task | None] | None = None
    task: Task | None = None
    is_there = False
    is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        is_gone = True

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            pulled = await acapture(agents.pull, who)
            if isinstance(pulled, Value):
                task = pulled.value
            await trio.lowlevel.checkpoint()
            is_there = not is_gone
            nursery.cancel_scope.cancel()
    finally:
        if task is not None and not is_there:
            agents.give_back(task)
    if isinstance(pulled, Error):
        pulled.unwrap()  # raises what it failed with
    return task if is_there else None


async def _first(*waits: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Until one of these has come, or the time is over."""
    with trio.move_on_after(seconds) as scope:
        async with trio.open_nursery() as nursery:

            async def watch(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                scope.cancel()

            for wait in waits:
                nursery.start_soon(watch, wait)


def _told(kind: type[Told], body: bytes) -> Told:
    """What a body says that is no output; nothing is what is usual."""
    if len(body) > MAX_TOLD:
        raise _Refused(problem(413, f"A body that is no output may have {MAX_TOLD:,} bytes."))
    return _decoded(kind, body if body.strip() else b"{}")


def _decoded(kind: type[Body], body: bytes) -> Body:
    # Not in a thread: it would hold the interpreter's lock for as long there.
    try:
        return decode(kind, body)
    except Malformed as error:
        raise _Refused(problem(400, f"The body is not JSON: {error}.")) from None
    except Invalid as error:
        wrong = {"field": error.field, "detail": str(error)}
        raise _Refused(problem(422, f"{error.field}: {error}", errors=[wrong])) from None


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."
