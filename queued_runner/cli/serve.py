"""`serve`, which is also the command `remote-runner`: the options of the service.

It owns their names and how they become settings. What it runs is loaded when it runs.
"""

from pathlib import Path
from typing import Any

import click

from queued_runner.cli.config_file import RUNNERS, config_option
from queued_runner.cli.options import option
from queued_runner.cli.store_options import OutputPlaceType, is_store
from queued_runner.cli.values import DURATION, KEEPING, ORIGIN, SIZE, Folder


def _is_installed(context: click.Context, parameter: click.Parameter, name: str) -> str:
    if name != parameter.default:
        from queued_runner.plugs import UnknownPlug, find_plug

        try:
            find_plug(name)
        except UnknownPlug as error:
            raise click.BadParameter(str(error), context, parameter) from None
    return name


EPILOG = """\b
Examples:
  queued-runner serve --data-dir state
  queued-runner serve --data-dir state --local-slots 2 --drain
"""


@click.command(epilog=EPILOG)
@option("--host", default="127.0.0.1", show_default=True, help="Address for workers.")
@option(
    "--port", default=8632, show_default=True, type=click.IntRange(0, 65535), help="For workers."
)
@option("--http-host", default="127.0.0.1", show_default=True, help="Address of the HTTP API.")
@option("--http-port", default=8633, show_default=True, type=click.IntRange(0, 65535))
@option("--no-http", is_flag=True, help="No HTTP API; the client verbs then cannot be used.")
@option(
    "--cors-origin",
    "cors_origins",
    type=ORIGIN,
    multiple=True,
    help="Pages of this origin may use the API, with the token; repeatable.",
)
@option("--data-dir", type=Folder(path_type=Path), help="Where the queue lies.")
@option(
    "--store", metavar="URL", callback=is_store,
    help="Where the queue is kept: sqlite:///PATH, or postgresql://USER@HOST/DATABASE, which"
    " several servers may share. By default a file in the data directory.",
)  # fmt: skip
@option(
    "--processes", default=1, show_default=True, type=click.IntRange(1, 64),
    help="Servers behind these ports, for more than one CPU; needs a store to share.",
)  # fmt: skip
@option(
    "--logs", type=OutputPlaceType(writable=True),
    help="Where output and results lie: a folder that is there, or s3://BUCKET/PREFIX; by default"
    " the data directory.",
)  # fmt: skip
@option(
    "--server-name", metavar="NAME",
    help="What this server is called; by default a name that the data directory keeps.",
)  # fmt: skip
@option("--local-slots", default=0, show_default=True, type=click.IntRange(0, 10_000))
@option(
    "--runner", default="remote", show_default=True, metavar="NAME", callback=_is_installed,
    help="What runs the jobs: the workers that connect (remote), this program (local), or an"
    " installed plug. Its options stand in [runners.NAME] of the --config file.",
)  # fmt: skip
@option("--json-port", type=click.IntRange(0, 65535), help="Workers that speak JSON lines.")
@option("--no-baseline", is_flag=True, help="Refuse workers that do not say hello.")
@option("--worker-token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@option(
    "--detach", default="120s", show_default=True, type=DURATION,
    help="How long a worker may be away: three heartbeats at least.",
)  # fmt: skip
@option("--heartbeat", default="10s", show_default=True, type=DURATION)
@option("--max-log-size", default="1GiB", show_default=True, type=SIZE)
@option("--max-results-size", default="64MiB", show_default=True, type=SIZE)
@option(
    "--agent-api", is_flag=True,
    help="Agents may pull jobs over HTTP (simple-worker --pull); here they need no token.",
)  # fmt: skip
@option(
    "--retention", default="30d", show_default=True, type=KEEPING,
    help="Delete jobs so long after their end; or never.",
)  # fmt: skip
@option(
    "--keep-failed", default="90d", show_default=True, type=KEEPING,
    help="The same for jobs that failed or were cancelled.",
)  # fmt: skip
@option("--drain", is_flag=True, help="At SIGTERM wait for the jobs that run; again: at once.")
@option("--log-format", default="text", type=click.Choice(["text", "json"]), show_default=True)
@option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@config_option
@click.pass_context
def serve(context: click.Context, /, **options: Any) -> None:
    """Run the service: the queue, the port for workers and the HTTP API."""
    from queued_runner.cli.serving import configure_logging, serve_until_signal
    from queued_runner.config import Settings
    from queued_runner.datadir import default_data_dir
    from remote_runner.standard_streams import fill

    fill()
    configure_logging(options.pop("log_format"), options.pop("log_level"))
    http_port = options.pop("http_port")
    serve_until_signal(
        Settings(
            data_dir=options.pop("data_dir") or default_data_dir(),
            http_port=None if options.pop("no_http") else http_port,
            runner_options=context.meta.get(RUNNERS, {}).get(options["runner"], {}),
            allow_baseline=not options.pop("no_baseline"),
            **options,
        )
    )
