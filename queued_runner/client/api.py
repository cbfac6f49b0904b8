"""The API as methods: submit, look, wait, and follow output across restarts of the server.

It owns which requests those take. It prints nothing; what goes wrong is a `ClientError`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgpack

from queued_runner.client.errors import ClientError, Refused, Unreachable
from queued_runner.client.link import Link, dump

STREAM_SILENCE: Final = 45.0
"""Seconds without a byte on a live stream, which says something every 15, until it is dead."""

PAGE: Final = 1000
"""Jobs in one answer of a list, at most."""

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
    """The API as methods. Not for several threads at once."""

    def submit(self, spec: Mapping[str, Any]) -> int:
        """Submit one job and give its id.

        A job without a key gets one of its own: where the answer is lost the job is sent again, and
        is the same one.
        """
        keyed = {"key": os.urandom(16).hex(), **spec}
        return int(self.request("POST", "/api/v1/jobs", content=dump(keyed))["id"])

    def job(self, job_id: int, *, wait: float = 0.0) -> Json:
        """One job; with `wait` after its end, or after so many seconds (at most 60)."""
        path = f"/api/v1/jobs/{job_id}"
        job: Json = self.request("GET", path, params={"wait": wait or None}, timeout=wait + 30.0)
        return job

    def jobs(
        self,
        *,
        state: str | None = None,
        group: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        before: int | None = None,
    ) -> Iterator[Json]:
        """Jobs, the newest first; all of them without `limit`, or those with ids below `before`."""
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(limit, PAGE)
            params = {"state": state, "group": group, "name": name, "before": before, "limit": size}
            page: list[Json] = self.request("GET", "/api/v1/jobs", params=params)
            yield from page
            if len(page) < size:
                return
            before = page[-1]["id"]
            limit = None if limit is None else limit - len(page)

    def group_counts(self, group: str) -> dict[str, int] | None:
        """How many jobs of a group are in each state; None where there is no such group."""
        try:
            answer = self.request("GET", f"/api/v1/groups/{quote(group, safe='')}")
        except Refused as error:
            if error.status != 404:
                raise
            return None
        return dict(answer["counts"])

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

    def cancel_many(
        self, job_ids: Sequence[int], *, signal: str | None = None, grace: float | None = None
    ) -> Iterator[tuple[list[Json], list[int]]]:
        """Ask for the end of jobs, a page at a time: the jobs as they are, and what is missing."""
        how = {"signal": signal, "grace": grace}
        given = {key: value for key, value in how.items() if value is not None}
        for begin in range(0, len(job_ids), PAGE):
            body = dump({"ids": job_ids[begin : begin + PAGE], **given})
            answer = self.request("POST", "/api/v1/jobs/cancel", content=body)
            yield answer["jobs"], answer["missing"]

    def retry_job(self, job_id: int) -> Json:
        """Queue a job that has ended once more."""
        before = self.repeats
        try:
            job: Json = self.request("POST", f"/api/v1/jobs/{job_id}/retry")
        except Refused as error:
            if error.status != HTTPStatus.CONFLICT or self.repeats == before:
                raise
            return self.job(job_id)  # it was queued by the request whose answer was lost
        return job

    def explain(self, job_id: int) -> Json:
        """Why a job stands where it stands."""
        explanation: Json = self.request("GET", f"/api/v1/jobs/{job_id}/explain")
        return explanation

    def prune(self, older_than: float, *, keep_failed: bool = False) -> int:
        """Delete jobs that ended so many seconds ago, all of them, and say how many.

        `keep_failed`: only those that succeeded.
        """
        body = dump({"older_than": older_than, "keep_failed": keep_failed})
        count = 0
        while deleted := int(self.request("POST", "/api/v1/prune", content=body)["deleted"]):
            count += deleted  # a call takes its time, and leaves the rest to the next one
        return count

    def workers(self) -> list[Json]:
        """The workers that are connected to any server, and those that are drained and away."""
        workers: list[Json] = self.request("GET", "/api/v1/workers")
        return workers

    def servers(self) -> list[Json]:
        """The servers of the queue."""
        servers: list[Json] = self.request("GET", "/api/v1/servers")
        return servers

    def drain_worker(self, worker_id: str) -> Json:
        """Start nothing more at a worker."""
        worker: Json = self.request("POST", f"/api/v1/workers/{quote(worker_id, '')}/drain")
        return worker

    def resume_worker(self, worker_id: str) -> Json:
        """Take back a drain."""
        worker: Json = self.request("POST", f"/api/v1/workers/{quote(worker_id, '')}/resume")
        return worker

    def tail_offset(
        self, job_id: int, *, attempt: int, lines: int, stream: str | None = None, offset: int = 0
    ) -> int:
        """Where the last lines of the output there is now begin, not before `offset`."""
        params = {
            "attempt": attempt, "stream": stream, "offset": offset, "tail": lines, "limit": 0,
        }  # fmt: skip
        response = self.respond("GET", f"/api/v1/jobs/{job_id}/logs", params=params)
        try:
            return int(response.headers["x-log-offset"])
        except (KeyError, ValueError):
            raise self.not_understood() from None

    def output(
        self, job_id: int, *, attempt: int = 1, offset: int = 0, follow: bool = False
    ) -> Iterator[Chunk]:
        """The output of one attempt from a point on: what there is now, or until it ends.

        Raises:
            Unreachable, Refused: as `follow`.
        """
        for item in self._follow_attempt(job_id, attempt, offset, follow=follow):
            if isinstance(item, Chunk):
                yield item

    def follow(self, job_id: int, *, attempt: int = 1, offset: int = 0) -> Iterator[Chunk | Json]:
        """The output of a job from a point on until it has ended for good, then the job.

        Goes on with the next attempt when the job is retried, and from where it was when the
        connection breaks.

        Raises:
            Unreachable: the server stayed away for `detach` seconds.
            Refused: there is no such job or attempt.
        """
        for number in count(attempt):
            for item in self._follow_attempt(job_id, number, offset, follow=True):
                if isinstance(item, Chunk):
                    yield item
                elif is_terminal(item) and item["attempt"] <= number:
                    yield item
                    return
            offset = 0

    def _follow_attempt(
        self, job_id: int, attempt: int, offset: int, *, follow: bool
    ) -> Iterator[Chunk | Json]:
        """The output of one attempt, then the job as it is after that."""
        was_asked_again = False
        while True:
            job: Json | None = None
            try:
                for item in self._stream(job_id, attempt, offset, follow=follow):
                    if isinstance(item, Chunk):
                        self.progress()
                        yield item
                        offset = item.offset + len(item.data)
                    elif item is None:
                        self.progress()
                    elif not follow or _is_over(item, attempt):
                        self.progress()
                        yield item
                        return
                    else:
                        job = item
                error: ClientError = Unreachable(f"{self.server.url} ended the output too early.")
            except httpx2.TransportError as failure:
                error = self.unreachable(failure)
            except (ValueError, TypeError, KeyError):
                error = self.not_understood()
            except ClientError as refusal:
                error = refusal
            if job is not None and not was_asked_again:
                # It was over as its stream ended, and is tried again by now.
                was_asked_again = True
                continue
            if not self.is_passing(error):
                raise error
            self.retry(error)

    def _stream(
        self, job_id: int, attempt: int, offset: int, *, follow: bool
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
            has_begun = False
            for data in response.iter_raw():
                unpacker.feed(data)
                for item in unpacker:
                    # The first item only says that the server is there: no progress yet, or a
                    # server that ends every stream at once would be asked for ever.
                    self.seen()
                    if has_begun or item is not None:
                        yield Chunk(attempt, *item[:4]) if isinstance(item, list) else item
                    has_begun = True


def is_terminal(job: Mapping[str, Any]) -> bool:
    """Whether nothing more will happen to a job."""
    return job["state"] in ("succeeded", "failed", "cancelled")


def _is_over(job: Mapping[str, Any], attempt: int) -> bool:
    """Whether this attempt has ended: the job has, or another attempt is due or under way."""
    return bool(
        is_terminal(job)
        or job["attempt"] > attempt
        or (job["attempt"] == attempt and job["state"] == "queued")
    )
