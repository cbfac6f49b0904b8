"""Records of the queue as JSON, in the names and units of the interface.

Pure: it owns how a job, an attempt and a worker look outside, and reads no clock.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from queued_runner.explain import Explanation
from queued_runner.hiding import ALL_OF_IT, hide
from queued_runner.jobs import Attempt, Job, JobSpec, JobState
from queued_runner.overview import ServerInfo
from remote_runner.types import WorkerInfo


def rfc3339(seconds: float | None) -> str | None:
    """UNIX seconds as `2026-11-24T12:00:00.250Z`; None stays None."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_job(
    job: Job, pending_reason: str | None = None, server: str | None = None
) -> dict[str, Any]:
    """What was sent, and what became of it; `server` has its running attempt."""
    duration = None
    if job.started_at is not None and job.finished_at is not None:
        duration = round(max(0.0, job.finished_at - job.started_at), 6)
    shown = {
        "id": job.id,
        "state": job.state.value,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "attempt": job.attempt,
        "worker": job.worker,
        "server": server,
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "duration": duration,
        "log_bytes": job.log_bytes,
        "log_dropped": job.log_dropped,
        "cancel_requested": job.cancel_requested,
        "pending_reason": pending_reason if job.state is JobState.QUEUED else None,
        **job.spec.model_dump(mode="json"),
        "after": list(job.after),
    }
    return _without_secrets(shown, job.spec.mask) if job.spec.mask else shown


def _without_secrets(shown: dict[str, Any], secrets: tuple[str, ...]) -> dict[str, Any]:
    """What may leave the server of a job that has some: their number, and nothing that is one."""
    own = {key: hide(shown[key], secrets) for key in (*JobSpec.model_fields, "pending_reason")}
    return {**shown, **own, "mask": [ALL_OF_IT] * len(secrets)}


def render_attempt(attempt: Attempt) -> dict[str, Any]:
    """One try at a job."""
    return {
        "job_id": attempt.job_id,
        "attempt": attempt.number,
        "worker": attempt.worker,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339(attempt.finished_at),
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "duration": attempt.duration,
        "max_rss": attempt.max_rss,
        "cpu_time": attempt.cpu_time,
        "log_bytes": attempt.log_bytes,
        "log_dropped": attempt.log_dropped,
    }


def render_explanation(explanation: Explanation) -> dict[str, Any]:
    """Why a job stands where it stands. The sentences name labels that it needs: its own words."""
    secrets = explanation.job.spec.mask
    return {
        "id": explanation.job.id,
        "state": explanation.job.state.value,
        "reason": hide(explanation.reason, secrets),
        "after": list(explanation.after),
        "workers": [{**asdict(fit), "why": hide(fit.why, secrets)} for fit in explanation.workers],
    }


def render_worker(worker: WorkerInfo) -> dict[str, Any]:
    """A connected worker."""
    return {
        "id": worker.id,
        "name": worker.name,
        "state": worker.state,
        "slots": worker.slots,
        "free": worker.free,
        "taken": worker.busy,
        "labels": dict(worker.labels),
        "version": worker.version,
        "address": worker.address,
        "running": list(worker.running),
        "is_baseline": worker.is_baseline,
        "can_mask": worker.can_mask,
        "server": worker.server,
    }


def render_server(server: ServerInfo) -> dict[str, Any]:
    """A server of the queue."""
    return {**asdict(server), "silence": round(server.silence, 3)}


def json_response(content: Any, status: int = 200) -> Response:
    """JSON without a second walk over values that are plain already."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(body, status, media_type="application/json")
