"""The route that ends many jobs at once.

It owns how many that may be, and how many are under way together, so that they share commits. What
it is to cancel a job is the queue's affair.
"""

from typing import Annotated, Any, Final

import trio
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem, validation_problem
from queued_runner.http.render import json_response
from queued_runner.http.shown import show_jobs
from queued_runner.jobs import MAX_JOB_ID, Job, Seconds, SignalName
from queued_runner.queue import Deposed, JobNotFound, NoRoom, Queue, StoreAway

MAX_IDS: Final = 1000
"""As many as a page has: the answer shows each of them."""

AT_ONCE: Final = 100


class CancelManyRequest(BaseModel):
    """Which jobs to end, and how; what is left out is taken from each job."""

    model_config = ConfigDict(extra="forbid")
    ids: Annotated[
        list[Annotated[int, Field(ge=1, le=MAX_JOB_ID, strict=True)]], Field(max_length=MAX_IDS)
    ]
    signal: SignalName | None = None
    grace: Seconds | None = None


_cancel_many = TypeAdapter(CancelManyRequest)

SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/CancelManyRequest"}}
        },
    }
}


def build_cancel_route(queue: Queue) -> APIRouter:
    """The route over this queue."""
    router = APIRouter(prefix="/api/v1", tags=["jobs"], route_class=StrictRoute)

    @router.post("/jobs/cancel", openapi_extra=SCHEMA)
    async def cancel_many(request: Request) -> Response:
        """Ask for the end of many jobs; `jobs` are as they are now, `missing` are not there."""
        try:
            wanted = _cancel_many.validate_json(await request.body())
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            if errors[0]["type"] == "json_invalid":
                return problem(400, f"The body is not JSON: {errors[0]['msg']}.")
            return validation_problem(errors, CancelManyRequest.model_fields)
        found = await _cancel(queue, wanted)
        return json_response(
            {
                "jobs": await show_jobs(queue, [job for job in found.values() if job]),
                "missing": [job_id for job_id, job in found.items() if job is None],
            }
        )

    return router


async def _cancel(queue: Queue, wanted: CancelManyRequest) -> dict[int, Job | None]:
    """Each of the jobs, in the order in which they were named, or None where it is not there."""
    found: dict[int, Job | None] = dict.fromkeys(wanted.ids)
    rest = iter(list(found))
    refusals: list[Exception] = []

    async def work() -> None:
        for job_id in rest:
            try:
                found[job_id] = await queue.cancel(job_id, signal=wanted.signal, grace=wanted.grace)
            except JobNotFound:
                pass
            except (NoRoom, StoreAway, Deposed) as refusal:
                refusals.append(refusal)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(AT_ONCE, len(found))):
            nursery.start_soon(work)
    if refusals:
        raise refusals[0]
    return found
