"""The route of events: what happens, live and resumable, as server-sent events.

It owns their form and the pace of a follower, who reads the ring of `events.py` for itself: nothing
waits for it here, and what it is too slow for is told as a `gap`.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, Final

import trio
from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from queued_runner.events import Event, Events, Gap, Place, parse_place
from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem
from queued_runner.http.render import rfc3339
from queued_runner.http.stream import KEEP_ALIVE_SECONDS, LongResponse, Push
from queued_runner.jobs import MAX_JOB_ID
from queued_runner.queue import Queue

MAX_EVENTS: Final = 500
"""Events that are sent at once."""

Wants = Callable[[Event], bool]


def build_event_routes(queue: Queue, shutdown: trio.Event) -> APIRouter:
    """The route over this queue; live answers end when `shutdown` is set."""
    router = APIRouter(prefix="/api/v1", tags=["events"], route_class=StrictRoute)

    @router.get("/events")
    async def stream_events(
        group: Annotated[str | None, Query(description="Only those of jobs of this group")] = None,
        job: Annotated[
            int | None, Query(ge=1, le=MAX_JOB_ID, description="Only those of this job")
        ] = None,
        follow: Annotated[bool, Query(description="Stay for what comes")] = True,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """What this server does with jobs and workers, from the oldest event that it remembers on.

        Of several servers on one queue each tells its own: `server` is its name.

        With `Last-Event-ID` it goes on behind that one. Where events are not there any more, a
        `gap` says so: the server remembers some thousands, and none of the time before its start.
        """
        place = None
        if last_event_id is not None:
            place = parse_place(last_event_id)
            if place is None:
                return problem(
                    422,
                    "Last-Event-ID: give the id of an event as it came, or leave it out",
                    field="Last-Event-ID",
                )

        def wants(event: Event) -> bool:
            return job in (None, event.job) and group in (None, event.group)

        return LongResponse(
            lambda push: send_events(queue.events, place, wants, push, follow=follow),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
            shutdown=shutdown if follow else None,
        )

    return router


async def send_events(
    events: Events,
    seen: Place | None,
    wants: Wants,
    push: Push,
    *,
    follow: bool,
    keep_alive: float = KEEP_ALIVE_SECONDS,
) -> None:
    """Send what comes after the place `seen`; with `follow` for ever, else what there is."""

    def frame(event: Event) -> bytes:
        about = {} if event.job is None else {"job": event.job, "group": event.group}
        place = Place(events.boot, event.number)
        return _sse(
            event.kind,
            place,
            at=rfc3339(event.at),
            server=events.server,
            **{**about, **event.facts},
        )

    place, gap = events.begin(seen)
    await push(b"retry: 1000\n\n" + _gap_frame(place, gap))
    pushed_at = trio.current_time()
    end = None if follow else events.last  # else it might never come to an end
    while True:
        place, gap, found = events.read(place, MAX_EVENTS)
        frames = [events.shown(event, frame) for event in found if wants(event)]
        if gap is not None:
            frames.insert(0, _gap_frame(Place(place.boot, place.number - len(found)), gap))
        if not frames and trio.current_time() - pushed_at >= keep_alive:
            # The id moves on with what is not wanted: no gap later for what nobody misses.
            frames = [f": keep-alive\nid: {place}\n\n".encode()]
        if frames:
            await push(b"".join(frames))
            pushed_at = trio.current_time()
        elif found:
            await trio.lowlevel.checkpoint()
        if end is not None:
            if place.number >= end:
                return
        elif not found:
            with trio.move_on_at(pushed_at + keep_alive):
                await events.wait_after(place)


def _gap_frame(place: Place, gap: Gap | None) -> bytes:
    return b"" if gap is None else _sse("gap", place, missed=gap.missed)


def _sse(kind: str, place: Place, **data: Any) -> bytes:
    """The data names the event and its id too, so that a line of it says everything."""
    text = json.dumps({"id": str(place), "event": kind, **data}, separators=(",", ":"))
    return f"event: {kind}\nid: {place}\ndata: {text}\n\n".encode()
