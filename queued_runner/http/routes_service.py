"""The routes about the servers of the queue: their workers, and the health of this one.

It owns `/servers`, `/workers` and what may be asked of them, `/healthz` and `/readyz`.
"""

from fastapi import APIRouter
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute
from queued_runner.http.problem import problem
from queued_runner.http.render import json_response, render_server, render_worker
from queued_runner.queue import NoRoom, Queue, StoreAway


def build_service_routes(queue: Queue) -> APIRouter:
    """The routes over this queue."""
    router = APIRouter(tags=["service"])  # health checks may add parameters as they like
    api = APIRouter(route_class=StrictRoute)

    @api.get("/api/v1/workers")
    async def list_workers() -> Response:
        """The workers that are connected to any server, and those that are drained and away."""
        return json_response([render_worker(worker) for worker in await queue.all_workers()])

    @api.get("/api/v1/servers")
    async def list_servers() -> Response:
        """The servers of this queue: for how many seconds each has been silent, and what it has."""
        return json_response([render_server(server) for server in await queue.servers()])

    @api.post("/api/v1/workers/{worker_id:path}/drain")
    async def drain_worker(worker_id: str) -> Response:
        """Start nothing more at a worker, now and when it connects again; what runs goes on."""
        return json_response(render_worker(await queue.drain_worker(worker_id)))

    @api.post("/api/v1/workers/{worker_id:path}/resume")
    async def resume_worker(worker_id: str) -> Response:
        """Take back a drain: the worker gets jobs again."""
        return json_response(render_worker(await queue.resume_worker(worker_id)))

    @router.get("/healthz")
    async def is_alive() -> Response:
        """Whether the process answers. Needs no token."""
        return json_response({"status": "ok"})

    @router.get("/readyz")
    async def is_ready() -> Response:
        """Whether jobs are taken now. Needs no token."""
        if not queue.is_accepting:
            return problem(503, "The server does not take jobs now: it starts or stops.")
        try:
            await queue.check_room()
        except (NoRoom, StoreAway) as error:
            return problem(503, f"The server does not take jobs now: {error}.")
        return json_response({"status": "ready"})

    router.include_router(api)
    return router
