"""Options that several verbs share, and the client they lead to.

It owns the names of environment variables (`DUPLEX_RUNNER_` and the option's long name) and how a
verb gets its client. It loads the client late: help and usage errors never pay for it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from queued_runner.client import Client

F = TypeVar("F", bound=Callable[..., Any])


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """`click.option` with its environment variable, which the help shows."""
    long = next(name for name in names if name.startswith("--"))
    envvar = "DUPLEX_RUNNER_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, **{"envvar": envvar, "show_envvar": True, **settings})


json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")


def server_options(command: F) -> F:
    """Where the server is. The token itself is no option: other users can see command lines."""
    for decorate in (
        option("--data-dir", type=click.Path(), help="Directory of the server's server.json."),
        option("--token-file", type=click.Path(), help="File with the token."),
        option("--url", metavar="URL", help="The server, for example http://127.0.0.1:8633."),
    ):
        command = decorate(command)
    return command


def open_client(
    *,
    url: str | None,
    token_file: str | None,
    data_dir: str | None,
    detach: float = 120.0,
) -> "Client":
    """A client of the server that the options, the environment or `server.json` name."""
    from queued_runner.client import Client
    from queued_runner.http.locate import Server, find_server

    def locate() -> Server:
        return find_server(url=url, token_file=token_file, data_dir=data_dir)

    def notice(text: str) -> None:
        click.echo(f"queued-runner: {text}", err=True)

    return Client(locate(), relocate=locate, on_notice=notice, detach=detach)
