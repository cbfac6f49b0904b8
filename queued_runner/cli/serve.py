"""`serve`: the whole service in this process. Reads settings, handles signals, sets exit codes."""

import logging
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import click
import structlog
import trio

from queued_runner.cli.options import option
from queued_runner.cli.values import DURATION, SIZE
from queued_runner.config import Settings, UnsafeBind
from queued_runner.datadir import default_data_dir
from remote_runner.errors import CannotListen, RunnerError

EX_CONFIG: Final = 78
EX_IOERR: Final = 74


def _load_config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {error}") from error
    known = {parameter.name for parameter in context.command.params}
    defaults = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = sorted(set(defaults) - known)
    if unknown:
        raise click.BadParameter(f"{path}: unknown key {unknown[0]!r}")
    context.default_map = {**(context.default_map or {}), **defaults}


@click.command()
@option("--host", default="127.0.0.1", show_default=True, help="Address for workers.")
@option(
    "--port", default=8632, show_default=True, type=click.IntRange(0, 65535), help="For workers."
)
@option("--http-host", default="127.0.0.1", show_default=True, help="Address of the HTTP API.")
@option("--http-port", default=8633, show_default=True, type=click.IntRange(0, 65535))
@option("--no-http", is_flag=True, help="No HTTP API; the client verbs then cannot be used.")
@option("--data-dir", type=click.Path(path_type=Path), help="Where the queue lies.")
@option("--local-slots", default=0, show_default=True, type=click.IntRange(0, 10_000))
@option("--json-port", type=click.IntRange(0, 65535), help="Workers that speak JSON lines.")
@option("--no-baseline", is_flag=True, help="Refuse workers that do not say hello.")
@option("--worker-token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@option("--detach", default="120s", show_default=True, type=DURATION)
@option("--heartbeat", default="10s", show_default=True, type=DURATION)
@option("--max-log-size", default="1GiB", show_default=True, type=SIZE)
@option("--log-format", default="text", type=click.Choice(["text", "json"]), show_default=True)
@option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_load_config,
    help="TOML file with these options as keys.",
)
def serve(**options: Any) -> None:
    """Run the service: the queue, the port for workers and the HTTP API."""
    _configure_logging(options.pop("log_format"), options.pop("log_level"))
    http_port = options.pop("http_port")
    settings = Settings(
        data_dir=options.pop("data_dir") or default_data_dir(),
        http_port=None if options.pop("no_http") else http_port,
        allow_baseline=not options.pop("no_baseline"),
        **options,
    )
    try:
        trio.run(_serve, settings)
    except* UnsafeBind as group:
        _leave(group, EX_CONFIG)
    except* CannotListen as group:
        _leave(group, EX_IOERR, _port_hint(group, settings))
    except* (RunnerError, OSError) as group:
        _leave(group, EX_IOERR)


def _port_hint(group: BaseException, settings: Settings) -> str:
    error = _first(group)
    port = error.port if isinstance(error, CannotListen) else None
    options = {"--port": settings.port, "--http-port": settings.http_port}
    option = next((name for name, value in options.items() if value == port), "--json-port")
    return f" with {option}, or 0 for any free one"


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _leave(group: BaseException, status: int, hint: str = "") -> None:
    click.echo(f"remote-runner: {_first(group)}{hint}", err=True)
    sys.exit(status)


async def _serve(settings: Settings) -> None:
    from queued_runner.service import serve as serve_until

    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    if stop.is_set():
                        nursery.cancel_scope.cancel()
                    stop.set()

            nursery.start_soon(listen)
            await serve_until(settings, stop)
            nursery.cancel_scope.cancel()


def _configure_logging(form: str, level: str) -> None:
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
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
