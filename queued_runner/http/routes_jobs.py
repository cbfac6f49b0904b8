"""The routes of jobs: submit, list, look, wait, cancel, retry, delete, and why they stand so.

It owns how requests become calls of the queue. It validates with `JobSpec` and nothing else, on
the raw body: a list of a thousand jobs is parsed once, in native code.
"""

from contextlib import suppress
from typing import Annotated, Any, Final

import trio
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem, validation_problem
from queued_runner.http.render import (
    json_response,
    render_attempt,
    render_explanation,
)
from queued_runner.http.shown import show_job, show_jobs
from queued_runner.jobs import MAX_JOB_ID, Job, JobSpec, JobState, Name, Seconds, SignalName
from queued_runner.queue import BadDependency, JobNotFound, Queue
from queued_runner.refusals import Guesses

MAX_JOBS: Final = 10_000
"""Jobs of one request; they share one commit."""

MAX_WAIT: Final = 60.0

JobId = Annotated[int, Path(ge=1, le=MAX_JOB_ID)]

KEY: Final = "A repeat with the same one gives the same id; `key` of a job goes before it"

Key = Annotated[Name, Field(max_length=250)]
"""What names a request; short enough for the number of a job behind it."""

_one = TypeAdapter(JobSpec)
_many = TypeAdapter(Annotated[list[JobSpec], Field(max_length=MAX_JOBS)])


class CancelRequest(BaseModel):
    """How to end a job; what is left out is taken from the job."""

    model_config = ConfigDict(extra="forbid")
    signal: SignalName | None = None
    grace: Seconds | None = None


_cancel = TypeAdapter(CancelRequest)

_SPEC: Final = {"$ref": "#/components/schemas/JobSpec"}
SUBMIT_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [_SPEC, {"type": "array", "items": _SPEC, "maxItems": MAX_JOBS}]
                }
            }
        },
    }
}
CANCEL_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CancelRequest"}}},
    }
}


def build_job_routes(queue: Queue, shutdown: trio.Event) -> APIRouter:
    """The routes over this queue."""
    router = APIRouter(prefix="/api/v1", tags=["jobs"], route_class=StrictRoute)

    @router.post("/jobs", status_code=201, openapi_extra=SUBMIT_SCHEMA)
    async def submit(
        request: Request,
        key: Annotated[Key | None, Header(alias="Idempotency-Key", description=KEY)] = None,
    ) -> Response:
        """Take one job, or a list in one commit. A repeat with the same key gives the same id."""
        if not queue.is_accepting:
            return problem(
                503,
                "The server is stopping and takes no jobs; send it again.",
                {"Retry-After": "5"},
            )
        body = await request.body()
        is_list = body.lstrip()[:1] == b"["
        try:
            guesses = Guesses()
            if is_list:
                specs = _many.validate_json(body, context=guesses)
            else:
                specs = [_one.validate_json(body, context=guesses)]
            if key is not None:
                specs = _keyed(specs, key, is_list=is_list)
        except ValidationError as error:
            return refuse(error)
        if not specs:
            return json_response({"ids": []}, 201)
        try:
            ids = await queue.submit_many(specs)
        except BadDependency as error:
            return _refuse_dependency(error, is_list=is_list)
        return json_response({"ids": ids} if is_list else {"id": ids[0]}, 201)

    @router.get("/jobs")
    async def list_jobs(
        state: JobState | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        before: Annotated[
            int | None, Query(ge=1, le=MAX_JOB_ID, description="Only ids below this one")
        ] = None,
    ) -> Response:
        """Jobs, the newest first. The next page begins before the last id of this one."""
        jobs = await queue.page(state=state, group=group, name=name, limit=limit, before=before)
        return json_response(await show_jobs(queue, jobs))

    @router.get("/jobs/{job_id}")
    async def get_job(
        job_id: JobId,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait")] = 0.0,
    ) -> Response:
        """One job; with `wait` the answer comes when the job has ended, or after that time."""
        job = await queue.get(job_id)
        if wait and not job.state.is_terminal:
            job = await _wait(queue, job_id, wait, shutdown)
        return json_response(await show_job(queue, job))

    @router.get("/jobs/{job_id}/attempts")
    async def list_attempts(job_id: JobId) -> Response:
        """All tries at a job, the first one first."""
        await queue.get(job_id)
        return json_response([render_attempt(item) for item in await queue.attempts(job_id)])

    @router.post("/jobs/{job_id}/cancel", openapi_extra=CANCEL_SCHEMA)
    async def cancel(job_id: JobId, request: Request) -> Response:
        """Ask for the end of a job. It is over when its state says so."""
        body = await request.body()
        try:
            how = _cancel.validate_json(body) if body.strip() else CancelRequest()
        except ValidationError as error:
            return refuse(error, CancelRequest)
        job = await queue.cancel(job_id, signal=how.signal, grace=how.grace)
        return json_response(await show_job(queue, job))

    @router.post("/jobs/{job_id}/retry")
    async def retry(job_id: JobId) -> Response:
        """Queue a job that has ended once more."""
        return json_response(await show_job(queue, await queue.retry(job_id)))

    @router.delete("/jobs/{job_id}", status_code=204)
    async def delete(job_id: JobId) -> Response:
        """Delete a job that has ended, with its attempts and their output."""
        await queue.delete(job_id)
        return Response(status_code=204)

    @router.get("/jobs/{job_id}/explain")
    async def explain(job_id: JobId) -> Response:
        """Why a job stands where it stands; per worker where labels or slots are what it lacks."""
        return json_response(render_explanation(await queue.explain(job_id)))

    return router


def _keyed(specs: list[JobSpec], key: str, *, is_list: bool) -> list[JobSpec]:
    """The specs with the key of the header; in a list each gets its own, `KEY/0`, `KEY/1`, …"""
    return [
        spec
        if spec.key is not None
        else spec.model_copy(update={"key": f"{key}/{index}" if is_list else key})
        for index, spec in enumerate(specs)
    ]


def refuse(error: ValidationError, model: type[BaseModel] = JobSpec) -> Response:
    """What is wrong with a body."""
    errors = error.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return problem(400, f"The body is not JSON: {errors[0]['msg']}.")
    return validation_problem(errors, model.model_fields)


def _refuse_dependency(error: BadDependency, *, is_list: bool) -> Response:
    """422 that names the reference, as if it had been refused with the rest of the body."""
    field = "" if error.index is None or not is_list else f"[{error.index}]."
    field += "after" if error.place is None else f"after[{error.place}]"
    detail = str(error)
    return problem(422, f"{field}: {detail}", errors=[{"field": field, "detail": detail}])


async def _wait(queue: Queue, job_id: int, seconds: float, shutdown: trio.Event) -> Job:
    """The job once it has ended, or as it is when the time is over or the server stops."""
    with trio.move_on_after(seconds) as scope:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await shutdown.wait()
                scope.cancel()

            nursery.start_soon(watch)
            with suppress(JobNotFound):  # it was deleted, which the look below tells
                await queue.wait(job_id)
            nursery.cancel_scope.cancel()
    return await queue.get(job_id)
