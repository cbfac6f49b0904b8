"""The service as a process: its log, its signals, and what it says when it cannot run.

It owns the exit status of the service. What the service does stands in `queued_runner.service`.
"""

import errno
import logging
import os
import signal
import sys
from dataclasses import replace
from typing import Any, Final

import click
import structlog
import trio

from queued_runner.cli.output import is_coloured
from queued_runner.config import Settings
from queued_runner.lifeline import Lifeline, Place, Word
from remote_runner.errors import CannotListen, RunnerError, UnusableSettings

EX_IOERR: Final = 74
EX_CONFIG: Final = 78


def serve_until_signal(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT; a second one ends it at once.

    With several processes this one starts them, or is one of those that it has started.

    Raises:
        SystemExit: it could not run; a sentence that says why was printed.
    """
    failure: BaseException | None = None
    status = 0
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would take local jobs' status
    try:
        place = Place.take(os.environ)
        if place is not None:
            settings = replace(
                settings,
                process=place.number,
                port=place.port,
                http_port=place.http_port,
                json_port=place.json_port,
            )
            trio.run(_serve_in, place, settings)
        elif settings.processes > 1:
            status = trio.run(_keep_processes, settings)
        else:
            trio.run(_serve, settings)
    except* (RunnerError, OSError) as group:
        failure = _first(group)
    if failure is not None:
        hint = _hint(failure, settings)
        click.echo(f"remote-runner: {failure}{hint}", err=True)
        sys.exit(EX_CONFIG if isinstance(failure, UnusableSettings) else EX_IOERR)
    if status:
        sys.exit(status)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _hint(failure: BaseException, settings: Settings) -> str:
    """What to do about it, where only the settings tell."""
    if isinstance(failure, CannotListen):
        return _port_hint(failure, settings)
    if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT):
        folders = " and ".join(map(str, dict.fromkeys([settings.data_dir, settings.output_dir])))
        return f"; free some space where the queue lies ({folders}), then start again"
    return ""


def _port_hint(error: CannotListen, settings: Settings) -> str:
    options = {"--port": settings.port, "--http-port": settings.http_port}
    option = next((name for name, port in options.items() if port == error.port), "--json-port")
    return f" with {option}, or 0 for any free one"


async def _keep_processes(settings: Settings) -> int:
    from queued_runner.processes import keep_processes

    command = [sys.executable, *sys.orig_argv[1:]]
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        return await keep_processes(settings, command, signals)


async def _serve_in(place: Place, settings: Settings) -> None:
    """As one of several: who started this process says when it is to stop."""
    with Lifeline(place) as lifeline:
        await _serve(settings, lifeline)


async def _serve(settings: Settings, lifeline: Lifeline | None = None) -> None:
    from queued_runner.service import serve

    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def obey_signals() -> None:
                await anext(signals)
                stop.set()
                await anext(signals)
                nursery.cancel_scope.cancel()

            async def obey(lifeline: Lifeline) -> None:
                while word := await lifeline.word():
                    stop.set()
                    if word is Word.AT_ONCE:
                        nursery.cancel_scope.cancel()
                stop.set()

            async def run(*, task_status: trio.TaskStatus[None]) -> None:
                await serve(settings, stop, task_status=task_status)
                nursery.cancel_scope.cancel()

            nursery.start_soon(obey_signals)
            if lifeline is not None:
                nursery.start_soon(obey, lifeline)
            await nursery.start(run)
            if lifeline is not None:
                nursery.start_soon(lifeline.keep_telling)


def configure_logging(form: str, level: str) -> None:
    """Log to stderr, as `text` for people or `json` for machines, from this level on."""
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "text":
        renderer = structlog.dev.ConsoleRenderer(
            colors=is_coloured(sys.stderr),
            exception_formatter=structlog.dev.plain_traceback,  # a rich one shows variables: tokens
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(name)s: %(message)s")
