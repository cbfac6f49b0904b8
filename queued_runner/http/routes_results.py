"""The routes of results: which files an attempt left, and their bytes.

It owns their headers: a file that a job has made is for saving, and never for a browser to show. It
never holds more of a file than a piece.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem
from queued_runner.http.render import json_response
from queued_runner.http.routes_jobs import JobId
from queued_runner.http.routes_logs import Number, missing_attempt
from queued_runner.http.stream import LongResponse, Push, close_iterator
from queued_runner.queue import Head, Queue, ResultNotFound


def build_result_routes(queue: Queue) -> APIRouter:
    """The routes over this queue."""
    router = APIRouter(prefix="/api/v1", tags=["results"], route_class=StrictRoute)

    @router.get("/jobs/{job_id}/results")
    async def list_results(
        job_id: JobId,
        attempt: Number = None,
        left_out: Annotated[bool, Query(description="What is missing here, and why")] = False,
    ) -> Response:
        """The files that an attempt left in $JOB_SCRATCH/results; none while it has not ended.

        `X-Results-Left-Out` counts what lay there and is no result; `left_out=1` names some.
        """
        job = await queue.get(job_id)
        number = attempt or max(job.attempt, 1)
        missing = missing_attempt(job, number)
        if missing is not None:
            return missing
        head = await queue.results(job_id, attempt=number)
        rows: list[dict[str, Any]]
        if left_out:
            rows = [{"name": item.name, "why": item.why} for item in head.left_out]
        else:
            rows = [{"name": file.name, "size": file.size} for file in head.files]
        response = json_response(rows)
        response.headers["X-Results-Attempt"] = str(number)
        response.headers["X-Results-Left-Out"] = str(head.left_out_count)
        return response

    @router.get("/jobs/{job_id}/results/{name:path}")
    async def get_result(job_id: JobId, name: str, attempt: Number = None) -> Response:
        """The bytes of one of these files."""
        job = await queue.get(job_id)
        number = attempt or max(job.attempt, 1)
        missing = missing_attempt(job, number)
        if missing is not None:
            return missing
        try:
            size, pieces = await queue.read_result(job_id, name, attempt=number)
        except ResultNotFound:
            return _no_such(job_id, number, name, await queue.results(job_id, attempt=number))
        try:
            # Before the answer begins: a file that is gone is an error, and not an empty one.
            first = await anext(pieces, b"")
        except BaseException:
            await close_iterator(pieces)
            raise
        return LongResponse(
            lambda push: _send(first, pieces, push),
            media_type="application/octet-stream",
            headers={
                "content-length": str(size),
                "Content-Disposition": _disposition(name),
                "Content-Security-Policy": "sandbox",
                "X-Results-Attempt": str(number),
            },
        )

    return router


async def _send(first: bytes, pieces: AsyncIterator[bytes], push: Push) -> None:
    try:
        if first:
            await push(first)
        async for piece in pieces:
            await push(piece)
    finally:
        await close_iterator(pieces)


def _disposition(name: str) -> str:
    """To be saved, under the last part of its name, which may be any text (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(name.rpartition('/')[2], safe='')}"


def _no_such(job_id: int, number: int, name: str, head: Head) -> Response:
    for item in head.left_out:
        if item.name == name:
            return problem(404, f"{name!r} of job {job_id} was left out: {item.why}.")
    return problem(
        404,
        f"Attempt {number} of job {job_id} left no result {name!r};"
        f" /api/v1/jobs/{job_id}/results lists what it left.",
    )
