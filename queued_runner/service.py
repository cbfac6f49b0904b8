"""The composition root: puts the parts together, in one nursery, and takes them apart in order."""

import math
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from queued_runner import datadir
from queued_runner.agents.agent import PREFIX
from queued_runner.agents.runner import AgentRunner
from queued_runner.config import Settings
from queued_runner.disk_room import DiskRoom
from queued_runner.dispatcher import Dispatcher
from queued_runner.drains import Drains
from queued_runner.events import Events
from queued_runner.fleet import Fleet
from queued_runner.jobs import Limits
from queued_runner.logs import Logs
from queued_runner.output_places import opened_output, require_same
from queued_runner.plugs import LOCAL, REMOTE, make_runner
from queued_runner.results import Results
from queued_runner.runner import QueuedRunner
from queued_runner.store.commit import GroupCommit, RunSync
from queued_runner.stores import opened_store
from remote_runner.errors import UnusableSettings
from remote_runner.garbage import collect_garbage_rarely
from remote_runner.lone_error import lone_error
from remote_runner.protocol.framing import Codec
from remote_runner.runner import RemoteRunner
from remote_runner.server import SILENT_BEATS, ServerSettings
from remote_runner.token_file import read_token
from remote_runner.types import JobRunner

log = structlog.get_logger("queued_runner")

DATABASE_PATIENCE: Final = 3.0
"""Seconds without an answer after which a database is away."""


@asynccontextmanager
async def open_queue(
    settings: Settings,
    runners: Sequence[JobRunner],
    *,
    run_sync: RunSync | None = None,
    now: Callable[[], float] | None = None,
    rng: Callable[[], float] | None = None,
) -> AsyncIterator[QueuedRunner]:
    """The queue over these runners, while entered. Leaving stops claiming; what runs, runs on.

    With `settings.drain` leaving waits for what runs, unless it is left with an error.

    Args:
        settings: see there.
        runners: where jobs run.
        run_sync: runs a blocking function; None: threads. now: wall clock, UNIX seconds. rng: 0
            to 1, the jitter of retries. For whoever simulates a machine.

    Raises:
        UnusableSettings: for how long jobs are kept is no time.
        DataDirUnusable: another server has the data directory, or the file of the store.
        StoreError: the store cannot be opened.
    """
    kept_for = settings.kept_for()
    with ExitStack() as stack:
        stack.enter_context(datadir.hold(settings.own_dir))
        store = stack.enter_context(opened_store(settings))
        output = stack.enter_context(
            opened_output(settings, store.writer.identity(), is_shared=store.is_shared)
        )
        if store.is_shared:
            require_same(store.writer, output)
        room = DiskRoom([settings.data_dir, output.folder or settings.data_dir])
        wall = now or time.time
        name = _server_name(settings)
        logs = Logs(
            output.logs,
            run_sync=run_sync,
            now=wall,
            require_room=room.require if output.folder else lambda: None,
        )
        results = Results(output.results, run_sync=run_sync, require_room=room.require)
        commits = GroupCommit(
            store.writer, run_sync, patience=DATABASE_PATIENCE if store.is_shared else math.inf
        )
        limits = Limits(
            detach=settings.detach,
            max_log_size=settings.max_log_size,
            max_results_size=settings.max_results_size,
        )
        agents = None
        if settings.agent_api:
            agents = AgentRunner(
                commits,
                logs,
                limits,
                recall=(lambda job_id: dispatcher.takeovers.recall_job(PREFIX, job_id))
                if store.is_shared
                else None,
            )
            runners = [*runners, agents]
        dispatcher = Dispatcher(
            store.writer.identity(),
            commits,
            logs,
            runners,
            results=results,
            limits=limits,
            hints=store.hints,
            is_shared=store.is_shared,
            events=Events(secrets.token_hex(4), wall, server=name),
            now=wall,
            rng=rng or random.random,
        )
        drains = Drains(
            commits,
            dispatcher,
            runners,
            store.writer.drained_workers(),
            is_shared=store.is_shared,
        )
        fleet = Fleet(
            commits,
            dispatcher,
            runners,
            name=name,
            new_id=lambda: secrets.token_hex(4),
            is_shared=store.is_shared,
            detach=settings.detach,
            silence=SILENT_BEATS * settings.heartbeat,
            place=datadir.server_name(settings.own_dir).place,
            drains=drains,
        )
        queue = QueuedRunner(
            commits,
            store.reader,
            logs,
            results,
            dispatcher,
            runners,
            drains,
            fleet,
            readers=store.readers,
            run_sync=run_sync,
            now=wall,
            require_room=room.require,
            agents=agents,
        )
        async with trio.open_nursery() as writers:
            writers.start_soon(commits.run)
            writers.start_soon(logs.run)
            writers.start_soon(results.run)
            in_thread = run_sync or trio.to_thread.run_sync
            if not store.is_shared:
                await results.tidy(await in_thread(store.writer.result_files))
            await fleet.enter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dispatcher.takeovers.load)
                if agents is not None:
                    await dispatcher.takeovers.recall(
                        PREFIX, fleet.earlier if store.is_shared else None
                    )
                for runner in runners:
                    await nursery.start(_keep_open, runner, dispatcher)
                nursery.start_soon(dispatcher.run)
                nursery.start_soon(dispatcher.expire)
                nursery.start_soon(fleet.run)
                nursery.start_soon(store.hints.run, dispatcher.hear)
                nursery.start_soon(queue.removal.run, kept_for)
                try:
                    yield queue
                    if settings.drain:
                        await queue.drain()
                finally:
                    queue.is_accepting = False
                    queue.stop_claiming()
                    nursery.cancel_scope.cancel()
            with trio.move_on_after(5, shield=True):
                await dispatcher.settle()
                await fleet.leave()
                await commits.drain()
            writers.cancel_scope.cancel()


def _server_name(settings: Settings) -> str:
    """What people see of this server. Raises UnusableSettings."""
    settings.require_name()
    # All that keep one another behind the same ports are called alike, and numbered.
    settings.own_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = settings.server_name or datadir.server_name(settings.data_dir).name
    return name if settings.process is None else f"{name}-{settings.process}"


async def _keep_open(
    runner: JobRunner, dispatcher: Dispatcher, *, task_status: trio.TaskStatus[None]
) -> None:
    async with runner.open(dispatcher):
        task_status.started()
        await trio.sleep_forever()


def build_runners(
    settings: Settings, *, owns_process: bool
) -> tuple[list[JobRunner], RemoteRunner | None]:
    """The runners that the settings ask for; `owns_process` as for `LocalRunner`.

    Raises:
        UnusableSettings: there is no runner of that name, or it cannot have these options.
    """
    runners: list[JobRunner] = []
    remote = None
    local: dict[str, Any] = {"owns_process": owns_process}
    if settings.is_shared and (settings.local_slots or settings.runner == LOCAL):
        local["worker_id"] = f"{LOCAL}@{_server_name(settings)}"
    if settings.local_slots:
        local["slots"] = settings.local_slots
    if settings.runner == REMOTE:
        if settings.runner_options:
            raise UnusableSettings(
                "the runner 'remote' has no options of its own: they are those of `serve`, in its"
                " table [serve]"
            )
        if settings.port is not None:
            remote = _remote_runner(settings)
            runners.append(remote)
    elif settings.runner == LOCAL:
        runners.append(make_runner(LOCAL, {**local, **settings.runner_options}))
    else:
        runners.append(make_runner(settings.runner, settings.runner_options))
    if settings.local_slots and settings.runner != LOCAL:
        runners.append(make_runner(LOCAL, local))
    return runners, remote


def _remote_runner(settings: Settings) -> RemoteRunner:
    token = None
    if settings.worker_token_file is not None:
        token = read_token(settings.worker_token_file)
    return RemoteRunner(
        settings.host,
        settings.port,
        json_port=settings.json_port,
        reuse_port=settings.process is not None,
        settings=ServerSettings(
            token=token,
            allow_baseline=settings.allow_baseline,
            heartbeat=settings.heartbeat,
            detach=settings.detach,
        ),
    )


@asynccontextmanager
async def open_runner(
    data_dir: str | Path | None = None, *, port: int | None = None, **options: Any
) -> AsyncIterator[QueuedRunner]:
    """A durable job runner inside this program.

    Args:
        data_dir: where the queue lies; the platform's state directory by default.
        port: for workers; None listens for none (then use `local_slots`), 0 picks a free one.
        options: further fields of `Settings`: `local_slots`, or `runner="NAME"` for a plug.

    Raises:
        UnusableSettings, DataDirUnusable, StoreError, OSError: it cannot start, and why.
    """
    folder = Path(data_dir) if data_dir is not None else datadir.default_data_dir()
    settings = Settings(data_dir=folder, port=port, http_port=None, **options)
    settings.require_safe()
    if settings.processes != 1:
        raise UnusableSettings("a program has one process for its queue; serve has --processes")
    runners, _ = build_runners(settings, owns_process=False)
    with lone_error():
        async with open_queue(settings, runners) as queue:
            yield queue


async def serve(
    settings: Settings,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The whole service, as all that this process does, until `stop` is set.

    It has started once it serves. Raises as `open_runner`.
    """
    from queued_runner.http.app import create_app
    from queued_runner.http.server import bind, serve_http

    settings.require_safe()
    settings.require_shareable()
    runners, remote = build_runners(settings, owns_process=True)
    async with open_queue(settings, runners) as queue:
        closing = trio.Event()
        http_port = None
        async with trio.open_nursery() as nursery:
            if settings.http_port is not None:
                token = datadir.read_or_create_token(settings.data_dir)
                sock = bind(
                    settings.http_host,
                    settings.http_port,
                    reuse_port=settings.process is not None,
                )
                http_port = sock.getsockname()[1]
                app = create_app(
                    queue,
                    token=token,
                    port=http_port,
                    shutdown=closing,
                    cors_origins=settings.cors_origins,
                    agents=queue.agents,
                )
                await nursery.start(_serve_http, serve_http, sock, app, closing)
            collect_garbage_rarely()
            ports = {} if remote is None else remote.ports
            url = settings.store_url()
            facts = datadir.describe(
                settings.data_dir,
                detach=settings.detach,
                port=ports.get(Codec.MSGPACK),
                json_port=ports.get(Codec.JSON_LINES),
                http_host=settings.http_host,
                http_port=http_port,
            )
            with datadir.announced(settings.own_dir, facts):
                log.info(
                    "ready",
                    workers=f"{settings.host}:{remote.port}" if remote else settings.runner,
                    api=facts.get("url"),
                    queue=url.shown if url is not None else str(settings.own_dir),
                )
                task_status.started()
                await stop.wait()
                queue.stop_claiming()
                if settings.drain:
                    log.info("draining; it stops when no job runs any more")
                    await queue.drain()
                else:
                    log.info("stopping; running jobs go on at their workers")
                closing.set()


async def _serve_http(
    serve_http: Any, sock: Any, app: Any, closing: trio.Event, *, task_status: trio.TaskStatus[None]
) -> None:
    await serve_http(sock, app, shutdown=closing, task_status=task_status)
