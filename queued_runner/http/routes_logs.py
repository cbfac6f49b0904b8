"""The routes of output: `/logs` (bytes) and `/logs/stream` (live, resumable).

It owns their parameters and headers. It never holds more of a log than `MAX_HELD` in memory.
"""

from dataclasses import replace
from typing import Annotated, Final, Literal

import trio
from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from queued_runner.http.frames import (
    MAX_OFFSET,
    Encoder,
    MsgpackEncoder,
    ResumePoint,
    SseEncoder,
    parse_resume,
)
from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem
from queued_runner.http.routes_jobs import JobId
from queued_runner.http.stream import AnswerCut, LongResponse, Push, close_iterator, send_records
from queued_runner.http.tail import MAX_LINES, Tail
from queued_runner.jobs import Job
from queued_runner.queue import JobNotFound, Queue, Record

MAX_HELD: Final = 1024 * 1024
"""Bytes of a log that are read before the answer begins, so that its headers are exact."""

Number = Annotated[int | None, Query(ge=1, le=1 << 31, description="The attempt; default: newest")]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET)]


class _Cut:
    """Cuts one stream and `limit` bytes out of records; `next` is where a reader goes on."""

    def __init__(self, stream: str | None, offset: int, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self.next = offset
        self.is_full = limit == 0

    def take(self, record: Record) -> bytes:
        if record.offset < self.next:
            record = replace(
                record, offset=self.next, data=record.data[self.next - record.offset :]
            )
        if self._stream is not None and record.stream != self._stream:
            self.next = record.offset + len(record.data)
            return b""
        data = record.data[: self._left]
        self._left -= len(data)
        self.next = record.offset + len(data)
        self.is_full = self._left == 0
        return data


def build_log_routes(queue: Queue, shutdown: trio.Event) -> APIRouter:
    """The routes over this queue; live answers end when `shutdown` is set."""
    router = APIRouter(prefix="/api/v1", tags=["logs"], route_class=StrictRoute)

    @router.get("/jobs/{job_id}/logs")
    async def get_log(
        job_id: JobId,
        attempt: Number = None,
        stream: Literal["stdout", "stderr"] | None = None,
        offset: Offset = 0,
        limit: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Bytes")] = MAX_OFFSET,
        tail: Annotated[
            int | None, Query(ge=0, le=MAX_LINES, description="Only so many last lines")
        ] = None,
        follow: Annotated[bool, Query(description="Stay until the attempt ends")] = False,
    ) -> Response:
        """Output as raw bytes. Go on with `offset` = `X-Log-Next` until `X-Log-Complete`."""
        job = await queue.get(job_id)
        number = attempt or max(job.attempt, 1)
        missing = missing_attempt(job, number)
        if missing is not None and not (follow and not job.state.is_terminal):
            return missing
        if tail is not None:
            offset = await _tail_offset(queue, job_id, number, Tail(tail, stream, offset), offset)
        headers = {"X-Log-Offset": str(offset), "X-Log-Attempt": str(number)}
        cut = _Cut(stream, offset, limit)
        if follow:
            return LongResponse(
                lambda push: _send_log(queue, job_id, number, offset, cut, push, follow=True),
                media_type="application/octet-stream",
                headers=headers,
                shutdown=shutdown,
            )

        has_ended = await _has_ended(queue, job, number)
        held = bytearray()
        length = 0
        at_end = True
        records = queue.records(job_id, attempt=number, offset=offset, follow=False)
        try:
            async for record in records:
                if cut.is_full:
                    at_end = False
                    break
                data = cut.take(record)
                length += len(data)
                if length <= MAX_HELD:
                    held += data
                if cut.next < record.offset + len(record.data):
                    at_end = False
                    break
        finally:
            await close_iterator(records)
        headers["X-Log-Next"] = str(cut.next)
        headers["X-Log-Complete"] = "true" if has_ended and at_end else "false"
        if length <= MAX_HELD:
            return Response(bytes(held), 200, headers, "application/octet-stream")
        held.clear()
        headers["content-length"] = str(length)
        again = _Cut(stream, offset, length)
        return LongResponse(
            lambda push: _send_log(queue, job_id, number, offset, again, push, follow=False),
            media_type="application/octet-stream",
            headers=headers,
        )

    @router.get("/jobs/{job_id}/logs/stream")
    async def stream_log(
        job_id: JobId,
        attempt: Number = None,
        offset: Annotated[str, Query(description="A byte offset, or the id of an event")] = "0",
        follow: Annotated[bool, Query(description="Stay until the attempt ends")] = True,
        last_event_id: Annotated[str | None, Header()] = None,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        """Live output: server-sent events, or MessagePack records when `Accept` asks for them."""
        point = parse_resume(last_event_id or offset)
        if point is None:
            return problem(
                422, "offset: give a byte offset, or the id of an event as it came", field="offset"
            )
        job = await queue.get(job_id)
        number = attempt or point.attempt or (1 if last_event_id else max(job.attempt, 1))
        is_resumed = attempt is None and (last_event_id or point.attempt)
        if is_resumed and await _is_received(queue, job, number, point.offset):
            number, point = number + 1, ResumePoint(0)
        missing = missing_attempt(job, number)
        # A follower may come before the next attempt, or before the end of the job in its place.
        if missing is not None and not (follow and number == job.attempt + 1):
            return missing
        encoder: Encoder
        start = point.offset
        if "msgpack" in accept:
            encoder = MsgpackEncoder()
        else:
            encoder = await _resumed(queue, job_id, number, point)
            start = encoder.start
        return LongResponse(
            lambda push: send_records(
                queue,
                job_id,
                encoder,
                push,
                attempt=number,
                offset=start,
                follow=follow,
            ),
            media_type=encoder.media_type,
            headers={"X-Log-Attempt": str(number), "X-Accel-Buffering": "no"},
            shutdown=shutdown,
        )

    return router


def missing_attempt(job: Job, number: int) -> Response | None:
    """The refusal where a job has had no attempt of this number."""
    if number <= max(job.attempt, 1):
        return None
    return problem(404, f"Job {job.id} has had {job.attempt} attempts; there is no {number} yet.")


async def _has_ended(queue: Queue, job: Job, number: int) -> bool:
    """Whether nothing more will come; asked before the log is read, never after."""
    if job.state.is_terminal or number < job.attempt:
        return True
    for attempt in await queue.attempts(job.id):
        if attempt.number == number:
            return attempt.finished_at is not None
    return False


async def _is_received(queue: Queue, job: Job, number: int, offset: int) -> bool:
    """Whether a client has all of the attempt that it followed, and another one follows on it."""
    if job.state.is_terminal and job.attempt <= number:
        return False
    for attempt in await queue.attempts(job.id):
        if attempt.number == number:
            return attempt.finished_at is not None and offset >= attempt.log_bytes
    return False


async def _tail_offset(queue: Queue, job_id: int, number: int, tail: Tail, offset: int) -> int:
    records = queue.records(job_id, attempt=number, offset=offset, follow=False)
    try:
        async for record in records:
            tail.feed(record)
    finally:
        await close_iterator(records)
    return tail.offset


async def _send_log(
    queue: Queue, job_id: int, number: int, offset: int, cut: _Cut, push: Push, *, follow: bool
) -> None:
    records = queue.records(job_id, attempt=number, offset=offset, follow=follow)
    try:
        async for record in records:
            data = cut.take(record)
            if data:
                await push(data)
            if cut.is_full:
                break
    except JobNotFound:
        raise AnswerCut from None
    finally:
        await close_iterator(records)


async def _resumed(queue: Queue, job_id: int, number: int, point: ResumePoint) -> SseEncoder:
    """An encoder that stands where the client's last event left off, as far as that is stored."""
    encoder = SseEncoder(point.offset, number, point.owed)
    for begin, end in point.owed:
        records = queue.records(job_id, attempt=number, offset=begin, follow=False)
        try:
            async for record in records:
                encoder.take_back(record)
                if record.offset + len(record.data) >= end:
                    break
        finally:
            await close_iterator(records)
    return encoder
