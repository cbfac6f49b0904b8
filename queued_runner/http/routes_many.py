"""The routes about many jobs at once: how a group stands, and deleting what is old.

It owns `/groups` and `/prune`. What is deleted is decided in `removal.py`.
"""

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem
from queued_runner.http.render import json_response
from queued_runner.http.routes_jobs import refuse
from queued_runner.jobs import JobState, Seconds
from queued_runner.queue import Queue


class PruneRequest(BaseModel):
    """Which jobs to delete: those that ended so many seconds ago; or only those that succeeded."""

    model_config = ConfigDict(extra="forbid")
    older_than: Seconds
    keep_failed: bool = False


_prune = TypeAdapter(PruneRequest)

PRUNE_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PruneRequest"}}},
    }
}


def build_many_routes(queue: Queue) -> APIRouter:
    """The routes over this queue."""
    router = APIRouter(prefix="/api/v1", tags=["many"], route_class=StrictRoute)

    @router.get("/groups/{group:path}")
    async def count_group(group: str) -> Response:
        """How many jobs of a group are in each state."""
        found = await queue.counts(group)
        if not found:
            return problem(404, "There is no job in this group; 'queued-runner ps' lists groups.")
        counts = {state.value: found.get(state, 0) for state in JobState}
        return json_response({"group": group, "total": sum(counts.values()), "counts": counts})

    @router.post("/prune", openapi_extra=PRUNE_SCHEMA)
    async def prune(request: Request) -> Response:
        """Delete old jobs. It takes ten seconds or so at most: ask again until none is deleted."""
        try:
            which = _prune.validate_json(await request.body())
        except ValidationError as error:
            return refuse(error, PruneRequest)
        deleted = await queue.prune(which.older_than, keep_failed=which.keep_failed)
        return json_response({"deleted": deleted})

    return router
