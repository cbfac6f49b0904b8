"""Jobs as they are shown: with why they wait and which server has them, which the queue is asked.

How they look then is `render.py`'s.
"""

from collections.abc import Sequence
from typing import Any

from queued_runner.http.render import render_job
from queued_runner.jobs import Job
from queued_runner.queue import Queue


async def show_jobs(queue: Queue, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """These jobs, at the cost of about one."""
    reasons = await queue.pending_reasons(jobs)
    servers = await queue.servers_of(jobs)
    return list(map(render_job, jobs, reasons, servers))


async def show_job(queue: Queue, job: Job) -> dict[str, Any]:
    """One of them."""
    return (await show_jobs(queue, [job]))[0]
