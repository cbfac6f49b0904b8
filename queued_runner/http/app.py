"""The application: routes, errors and schema behind the guard.

It owns which error becomes which status. It opens no socket and starts no task; only the server
imports it, for FastAPI takes its time to load.
"""

from collections.abc import Collection
from typing import Any, Final

import trio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp

from queued_runner.agents.runner import AgentRunner
from queued_runner.http.description import describe
from queued_runner.http.guard import OPEN_PATHS, SERVER_FAILED, Guard
from queued_runner.http.metrics import build_metrics_route
from queued_runner.http.problem import problem, validation_problem
from queued_runner.http.routes_agent import AGENT_PREFIX, build_agent_routes
from queued_runner.http.routes_cancel import CancelManyRequest, build_cancel_route
from queued_runner.http.routes_docs import build_docs_route
from queued_runner.http.routes_events import build_event_routes
from queued_runner.http.routes_jobs import CancelRequest, build_job_routes
from queued_runner.http.routes_logs import build_log_routes
from queued_runner.http.routes_many import PruneRequest, build_many_routes
from queued_runner.http.routes_results import build_result_routes
from queued_runner.http.routes_service import build_service_routes
from queued_runner.jobs import JobSpec
from queued_runner.queue import (
    Deposed,
    JobNotFound,
    KeyConflict,
    NoRoom,
    NotEnded,
    Queue,
    ResultGone,
    StillNamed,
    StoreAway,
    WorkerLeaves,
    WorkerNotFound,
)

RETRY_AFTER: Final = "2"
"""Seconds after which a database that is away has been tried again."""


def create_app(
    queue: Queue,
    *,
    token: str,
    port: int,
    shutdown: trio.Event,
    hosts: Collection[str] = (),
    cors_origins: Collection[str] = (),
    agents: AgentRunner | None = None,
) -> ASGIApp:
    """The guarded API over `queue`, and that of `agents` where there are any.

    `port` is the one that is bound. When `shutdown` is set, live answers end.
    """
    app = FastAPI(
        title="duplex-runner",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            JobNotFound: _not_found,
            KeyConflict: _conflict,
            NoRoom: _no_room,
            StoreAway: _away,
            Deposed: _away,
            WorkerNotFound: _no_worker,
            WorkerLeaves: _leaves,
            ResultGone: _gone,
            NotEnded: _not_ended,
            StillNamed: _not_ended,
            RequestValidationError: _invalid,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.include_router(build_job_routes(queue, shutdown))
    app.include_router(build_cancel_route(queue))
    app.include_router(build_log_routes(queue, shutdown))
    app.include_router(build_event_routes(queue, shutdown))
    app.include_router(build_result_routes(queue))
    app.include_router(build_many_routes(queue))
    app.include_router(build_service_routes(queue))
    app.include_router(build_metrics_route(queue))
    app.include_router(build_docs_route())
    if agents is not None:
        app.include_router(build_agent_routes(agents, shutdown))
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return Guard(
        app,
        token=token,
        port=port,
        hosts=hosts,
        cors_origins=cors_origins,
        open_prefix=None if agents is None else AGENT_PREFIX,
    )


def _schema(app: FastAPI) -> dict[str, Any]:
    """The description of the API, made once."""
    if app.openapi_schema is None:
        models = (JobSpec, CancelRequest, CancelManyRequest, PruneRequest)
        app.openapi_schema = describe(app, models, OPEN_PATHS)
    return app.openapi_schema


async def _not_found(request: Request, error: Exception) -> Response:
    job_id = request.path_params.get("job_id", "?")
    return problem(404, f"There is no job {job_id}; 'queued-runner ps' lists what there is.")


async def _conflict(request: Request, error: Exception) -> Response:
    job_id = getattr(error, "job_id", None)
    taken = f" by job {job_id}" if job_id is not None else ""
    return problem(
        409,
        f"This key is taken{taken} with another content. Use another key, or send the same job.",
        **({"id": job_id} if job_id is not None else {}),
    )


async def _not_ended(request: Request, error: Exception) -> Response:
    why = str(error)
    return problem(409, f"{why[0].upper()}{why[1:]}.")


async def _no_room(request: Request, error: Exception) -> Response:
    why = str(error)
    return problem(507, f"{why[0].upper()}{why[1:]}.", {"Retry-After": "10"})


async def _away(request: Request, error: Exception) -> Response:
    why = str(error)
    return problem(503, f"{why[0].upper()}{why[1:]}.", {"Retry-After": RETRY_AFTER})


async def _no_worker(request: Request, error: Exception) -> Response:
    worker_id = request.path_params.get("worker_id", "?")
    return problem(
        404, f"There is no worker {worker_id!r}; 'queued-runner workers' lists what there is."
    )


async def _leaves(request: Request, error: Exception) -> Response:
    why = str(error)
    return problem(409, f"{why[0].upper()}{why[1:]}.")


async def _gone(request: Request, error: Exception) -> Response:
    return problem(410, f"The server does not have this result any more: {error}.")


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The first part of a location says where (query, path, header): the name is enough.
    errors = [{**item, "loc": item["loc"][1:] or item["loc"]} for item in error.errors()]
    return validation_problem(errors)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is nothing at {request.url.path}; /openapi.json lists what there is."
    elif error.status_code == 405:
        detail = f"{request.method} cannot be used here; /openapi.json says what can."
        return problem(405, detail, {"Allow": ", ".join(_methods_at(request))})
    return problem(error.status_code, detail, error.headers)


def _methods_at(request: Request) -> list[str]:
    """What may be used at this path, by any of its routes; each of them knows of itself alone."""
    methods = set()
    for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            methods.add(method)
    return sorted(methods)


async def _unexpected(request: Request, error: Exception) -> Response:
    return problem(500, SERVER_FAILED)
