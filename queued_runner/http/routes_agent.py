"""The API of the second ancestor, whose agents pull tasks and send output and ends over HTTP.

It owns the routes below `/tasks`, and what their JSON means. What ours say beyond the ancestor's
contract is optional here, and theirs ignore what we add. It decides nothing about tasks.
"""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import trio
from fastapi import APIRouter, Path, Request
from outcome import Error, Outcome, Value, acapture
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from starlette.responses import Response

from queued_runner.agents.agent import Agent
from queued_runner.agents.chunks import TooEarly, TooLate
from queued_runner.agents.runner import AgentRunner
from queued_runner.agents.tasks import Report, Task, TaskOver, UnknownTask
from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem, validation_problem
from queued_runner.http.render import json_response, rfc3339
from queued_runner.jobs import Name
from remote_runner.types import Reason, StreamName

AGENT_PREFIX: Final = "/tasks/"
MAX_WAIT: Final = 20.0
"""Seconds that a heartbeat may wait for news: less than the lease that it renews."""
MAX_CHUNK: Final = 4 * 1024 * 1024
"""Bytes of one chunk; the contract's are of 512 KiB, and a long line more."""
_SMALL: Final = 1024 * 1024
"""Bytes of a body that are parsed at once, which takes 0.2 ms where 512 KiB of it are text; larger
ones hold the event loop for too long."""

TaskId = Annotated[int, Path(ge=1, le=(1 << 53) - 1)]

Model = TypeVar("Model", bound=BaseModel)

_parsing: Final = trio.CapacityLimiter(2)


class PullRequest(BaseModel):
    """Who pulls; agents of the ancestor say nothing."""

    id: Name | None = None
    boot: Name = "-"
    held: frozenset[int] = Field(default=frozenset(), max_length=10_000)
    name: Name | None = None
    slots: int = Field(default=1, ge=1, le=10_000)
    labels: dict[Name, Annotated[str, StringConstraints(max_length=256)]] = Field(
        default_factory=dict, max_length=64
    )


def _end_line(lines: bytes) -> bytes:
    return lines + b"\n"


def _decode(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is not base64: {error}") from None


class Chunk(BaseModel):
    """Lines of one stream, or, where it is no text or its last line has no end, `base64`."""

    kind: StreamName
    index: int = Field(ge=0, lt=1 << 53)
    content: Annotated[bytes, AfterValidator(_end_line)] | None = None
    """Lines joined by newlines: the last one ends with one too."""
    base64: Annotated[bytes, Field(min_length=1), AfterValidator(_decode)] | None = None
    """Not empty: no bytes are no piece on the disk, where pieces are counted for the next index."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.content is None) == (self.base64 is None):
            raise ValueError("either content or base64 is needed")
        return self

    @property
    def data(self) -> bytes:
        """Its bytes, whichever way they came."""
        return self.content if self.content is not None else self.base64 or b""


def _ends_tasks(reason: Reason) -> Reason:
    if reason in (Reason.WORKER_LOST, Reason.UNHEARD, Reason.GIVEN_BACK, Reason.STOPPED):
        raise ValueError(f"an agent cannot say {reason.value!r}")
    return reason


class StatusRequest(BaseModel):
    """How a task has ended; what is beyond `status` only ours say."""

    status: Literal["succeeded", "failed"]
    reason: Annotated[Reason, AfterValidator(_ends_tasks)] | None = None
    exit_code: int | None = Field(default=None, ge=0, le=255)
    signal: Annotated[str, StringConstraints(max_length=32)] | None = None
    complete: bool = False


class HeartbeatRequest(BaseModel):
    """`wait`: seconds that the answer may take, for the news that the task is to end."""

    wait: float = Field(default=0.0, ge=0, le=MAX_WAIT, allow_inf_nan=False)


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
        body = await request.body()
        told = PullRequest() if not body.strip() else await _parse(PullRequest, body)
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
        chunk = await _parse(Chunk, await request.body())
        if len(chunk.data) > MAX_CHUNK:
            raise _Refused(
                problem(413, f"A chunk may have {MAX_CHUNK:,} bytes; send the rest in another.")
            )
        await agents.take(task, chunk.kind, chunk.index, chunk.data)
        return json_response({})

    @router.patch("/{task}/status")
    async def end(task: TaskId, request: Request) -> Response:
        """How a task has ended; answered once that is on disk."""
        told = await _parse(StatusRequest, await request.body())
        report = Report(told.status, told.reason, told.exit_code, told.signal, told.complete)
        await agents.report(task, report)
        return json_response({})

    @router.post("/{task}/heartbeat")
    async def renew(task: TaskId, request: Request) -> Response:
        """Renew the lease of a task. `cancel` in the answer: end it."""
        body = await request.body()
        told = HeartbeatRequest() if not body.strip() else await _parse(HeartbeatRequest, body)
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


async def _parse(model: type[Model], body: bytes) -> Model:
    validate = partial(model.model_validate_json, body)
    try:
        if len(body) <= _SMALL:
            return validate()
        return await trio.to_thread.run_sync(validate, limiter=_parsing)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise _Refused(problem(400, f"The body is not JSON: {errors[0]['msg']}.")) from None
        raise _Refused(validation_problem(errors)) from None


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."
