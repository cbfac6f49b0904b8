"""Answers that take their time: live streams and long logs, sent as they come.

It owns the life of such an answer: it ends when its source ends, when the client leaves or when
the server stops. It holds a bounded number of records, so a slow reader slows only itself, and
knows nothing of encodings.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from queued_runner.http.frames import Encoder
from queued_runner.http.shown import show_job
from queued_runner.queue import Deposed, JobNotFound, Queue, Record, StoreAway

KEEP_ALIVE_SECONDS: Final = 15.0
MAX_WAITING: Final = 16
"""Records between the log and the socket of one reader."""
MAX_FRAME: Final = 256 * 1024
"""Bytes after which what was gathered is sent."""

Push = Callable[[bytes], Awaitable[None]]


class AnswerCut(Exception):
    """The rest of an answer that has begun is gone: only the end of the connection can say so."""


class LongResponse(Response):
    """Runs `produce(push)` and sends what it pushes.

    With `shutdown` it is a live one: that event ends it early, and so does a client that leaves.
    Without, it has an end of its own, and a client that only closed its sending side gets it all.
    """

    def __init__(
        self,
        produce: Callable[[Push], Awaitable[None]],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        shutdown: trio.Event | None = None,
    ) -> None:
        super().__init__(b"", 200, headers, media_type)
        if "content-length" not in (headers or {}):
            del self.headers["content-length"]
        self._produce = produce
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def push(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        is_cut = False
        try:
            if self._shutdown is None:
                await self._produce(push)
            else:
                await self._produce_until(self._shutdown, receive, push)
        except* (AnswerCut, StoreAway, Deposed):  # who asks again for the rest is told why
            is_cut = True
        if is_cut:
            raise AnswerCut
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _produce_until(self, shutdown: trio.Event, receive: Receive, push: Push) -> None:
        async def watch(departure: Callable[[], Awaitable[None]]) -> None:
            await departure()
            nursery.cancel_scope.cancel()

        async def client_left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, client_left)
            nursery.start_soon(watch, shutdown.wait)
            await self._produce(push)
            nursery.cancel_scope.cancel()


async def send_records(
    queue: Queue,
    job_id: int,
    encoder: Encoder,
    push: Push,
    *,
    attempt: int,
    offset: int,
    follow: bool = True,
    keep_alive: float = KEEP_ALIVE_SECONDS,
) -> None:
    """Replay one attempt, follow it, then say what was dropped and how the job stands."""
    await push(encoder.begin())
    source, records = trio.open_memory_channel[Record](MAX_WAITING)
    async with trio.open_nursery() as nursery:
        iterator = queue.records(job_id, attempt=attempt, offset=offset, follow=follow)
        nursery.start_soon(_pump, iterator, source)
        while True:
            record: Record | None = None
            try:
                with trio.move_on_after(keep_alive):
                    record = await records.receive()
            except trio.EndOfChannel:
                break
            if record is None:
                await push(encoder.keep_alive())
            else:
                await push(_gather(record, records, encoder))
    try:
        size, dropped = await _size_and_dropped(queue, job_id, attempt)
        job = await queue.get(job_id)
    except JobNotFound:
        return  # deleted meanwhile: who asks again for the rest is told
    if dropped:
        await push(encoder.gap(size, size + dropped))
    await push(encoder.end(await show_job(queue, job)))


async def _size_and_dropped(queue: Queue, job_id: int, attempt: int) -> tuple[int, int]:
    """How many bytes of an attempt's output are stored, and how many came after these."""
    for each in await queue.attempts(job_id):
        if each.number == attempt:
            return each.log_bytes, each.log_dropped
    return 0, 0


def _gather(record: Record, records: trio.MemoryReceiveChannel[Record], encoder: Encoder) -> bytes:
    """This record and those that wait behind it, as one piece: one send for many small writes."""
    frames = [encoder.record(record)]
    size = len(frames[0])
    while size < MAX_FRAME:
        try:
            frame = encoder.record(records.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
        frames.append(frame)
        size += len(frame)
    return b"".join(frames)


async def _pump(iterator: AsyncIterator[Record], source: trio.MemorySendChannel[Record]) -> None:
    """A task of its own for the iterator: a time-out must never cancel it half-way."""
    try:
        async with source:
            with suppress(JobNotFound):
                async for record in iterator:
                    await source.send(record)
    finally:
        await close_iterator(iterator)


async def close_iterator(iterator: AsyncIterator[object]) -> None:
    """Close a generator now and here, not when the garbage collector finds it."""
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()
