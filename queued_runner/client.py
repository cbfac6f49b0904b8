"""A client of the HTTP API: finds the server, asks it, and follows output across its restarts.

It owns the wording of what can go wrong between here and the server. It prints nothing and needs
no event loop; it imports nothing of the server, so that a verb of the command line starts fast.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import msgpack

from queued_runner.http.link import Link, Patience, dump
from queued_runner.http.locate import ClientError, Refused, Unreachable

STREAM_SILENCE: Final = 45.0
"""Seconds without a byte on a live stream, which says something every 15, until it is dead."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output of one attempt."""

    attempt: int
    offset: int
    at_ms: int
    stream: str
    data: bytes


class Client(Link):
    """The API as methods. Not for several threads at once.

    `relocate` finds the server anew when it went away: it may come back on another port.
    `on_notice` gets a sentence when a live stream is interrupted; `detach` is for how many seconds
    it is then tried again.
    """

    def submit(self, spec: Mapping[str, Any]) -> int:
        """Submit one job and give its id."""
        return int(self.request("POST", "/api/v1/jobs", content=dump(spec))["id"])

    def submit_many(self, specs: Sequence[Mapping[str, Any]]) -> list[int]:
        """Submit jobs in one commit and give their ids, in order."""
        answer = self.request("POST", "/api/v1/jobs", content=dump(list(specs)))
        return [int(job_id) for job_id in answer["ids"]]

    def job(self, job_id: int, *, wait: float = 0.0) -> Json:
        """One job; with `wait` after its end, or after so many seconds (at most 60)."""
        params = {"wait": wait} if wait else None
        job: Json = self.request(
            "GET", f"/api/v1/jobs/{job_id}", params=params, timeout=wait + 30.0
        )
        return job

    def jobs(
        self,
        *,
        state: str | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Json]:
        """Jobs, the newest first; all of them without `limit`."""
        before: int | None = None
        while limit is None or limit > 0:
            size = 1000 if limit is None else min(limit, 1000)
            given = {"state": state, "group": group, "name": name, "before": before, "limit": size}
            params = {key: value for key, value in given.items() if value is not None}
            page: list[Json] = self.request("GET", "/api/v1/jobs", params=params)
            yield from page
            if len(page) < size:
                return
            before = page[-1]["id"]
            limit = None if limit is None else limit - len(page)

    def attempts(self, job_id: int) -> list[Json]:
        """All tries at a job."""
        attempts: list[Json] = self.request("GET", f"/api/v1/jobs/{job_id}/attempts")
        return attempts

    def cancel(self, job_id: int, *, signal: str | None = None, grace: float | None = None) -> Json:
        """Ask for the end of a job."""
        how = {"signal": signal, "grace": grace}
        body = dump({key: value for key, value in how.items() if value is not None})
        job: Json = self.request("POST", f"/api/v1/jobs/{job_id}/cancel", content=body)
        return job

    def workers(self) -> list[Json]:
        """The connected workers."""
        workers: list[Json] = self.request("GET", "/api/v1/workers")
        return workers

    def log(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        stream: str | None = None,
        offset: int = 0,
    ) -> Iterator[bytes]:
        """The output there is now, in pieces."""
        given = {"attempt": attempt, "stream": stream, "offset": offset}
        params = {key: value for key, value in given.items() if value is not None}
        try:
            with self.http.stream("GET", f"/api/v1/jobs/{job_id}/logs", params=params) as response:
                self.check(response)
                yield from response.iter_raw()
        except httpx2.TransportError as error:
            raise self.unreachable(error) from None

    def replay(self, job_id: int, *, attempt: int = 1, offset: int = 0) -> Iterator[Chunk]:
        """The output there is now, with its streams told apart."""
        try:
            for item in self._stream(job_id, attempt, offset, follow=False):
                if isinstance(item, Chunk):
                    yield item
        except httpx2.TransportError as error:
            raise self.unreachable(error) from None

    def wait(self, job_id: int) -> Json:
        """The job once it has ended; a server that restarts meanwhile is waited for."""
        patience = Patience(self.detach)
        while True:
            try:
                job = self.job(job_id, wait=20.0)
            except Unreachable as error:
                self.retry(patience, error)
                continue
            patience.reset()
            if is_terminal(job):
                return job

    def follow(self, job_id: int, *, attempt: int = 1, offset: int = 0) -> Iterator[Chunk | Json]:
        """Output of a job from a point on until its end, then the job.

        Goes on with the next attempt when the job is retried, and from where it was when the
        connection breaks.

        Raises:
            Unreachable: the server stayed away for `detach` seconds.
            Refused: there is no such job or attempt.
        """
        patience = Patience(self.detach)
        while True:
            outcome: Json | None = None
            try:
                for item in self._stream(job_id, attempt, offset):
                    patience.reset()
                    if isinstance(item, Chunk):
                        yield item
                        offset = item.offset + len(item.data)
                    elif item is not None:
                        outcome = item
            except httpx2.TransportError as error:
                self.retry(patience, self.unreachable(error))
                continue
            except (ValueError, TypeError):
                raise ClientError(
                    f"{self.server.url} sent output that cannot be understood."
                ) from None
            except Refused as error:
                if error.status != 503:
                    raise
                self.retry(patience, error)
                continue
            if outcome is None:
                self.retry(patience, Unreachable("The server ended the stream."))
            elif is_terminal(outcome) and outcome["attempt"] <= attempt:
                yield outcome
                return
            elif _has_ended(outcome, attempt):
                attempt, offset = attempt + 1, 0
            else:
                time.sleep(0.2)

    def _stream(
        self, job_id: int, attempt: int, offset: int, *, follow: bool = True
    ) -> Iterator[Chunk | Json | None]:
        """Chunks, None for a sign of life, at the end the job."""
        with self.http.stream(
            "GET",
            f"/api/v1/jobs/{job_id}/logs/stream",
            params={"attempt": attempt, "offset": offset, "follow": follow},
            headers={"Accept": "application/vnd.msgpack"},
            timeout=httpx2.Timeout(30.0, connect=5.0, read=STREAM_SILENCE),
        ) as response:
            self.check(response)
            unpacker = msgpack.Unpacker(max_buffer_size=64 * 1024 * 1024)
            for data in response.iter_raw():
                unpacker.feed(data)
                for item in unpacker:
                    yield Chunk(attempt, *item[:4]) if isinstance(item, list) else item


def is_terminal(job: Mapping[str, Any]) -> bool:
    """Whether nothing more will happen to a job."""
    return job["state"] in ("succeeded", "failed", "cancelled")


def _has_ended(job: Mapping[str, Any], attempt: int) -> bool:
    """Whether this attempt is over: another one is due, or under way."""
    return bool(
        job["attempt"] > attempt or (job["attempt"] == attempt and job["state"] == "queued")
    )
