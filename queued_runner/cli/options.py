"""Options that several verbs share, and the client they lead to.

It owns the names of environment variables (`DUPLEX_RUNNER_` and the option's long name) and how a
verb gets its client. It loads the client late: help and usage errors never pay for it.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import click

from queued_runner.cli.output import printable
from queued_runner.cli.quick_start import load_http
from queued_runner.cli.values import Folder

if TYPE_CHECKING:
    from queued_runner.client.api import Client

F = TypeVar("F", bound=Callable[..., Any])


class Connect(Protocol):
    """Opens a client of the server that the options of a verb name."""

    def __call__(self, *, waits: bool = True) -> "Client":
        """`waits`: for a server that goes away, which it says; else that is an error at once."""


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """`click.option` with its environment variable, which the help shows."""
    long = next(name for name in names if name.startswith("--"))
    envvar = "DUPLEX_RUNNER_" + long.removeprefix("--").replace("-", "_").upper()
    return click.option(*names, **{"envvar": envvar, "show_envvar": True, **settings})


json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")


def server_options(verb: F) -> F:
    """Add where the server is. The verb gets `connect`, which opens a client of that server.

    The token itself is no option: other users can see command lines.
    """

    @functools.wraps(verb)
    def call(
        *args: Any, url: str | None, token_file: str | None, data_dir: str | None, **given: Any
    ) -> Any:
        def connect(*, waits: bool = True) -> "Client":
            return _open_client(waits, url=url, token_file=token_file, data_dir=data_dir)

        return verb(*args, connect=connect, **given)

    command: Any = call
    for decorate in (
        option("--data-dir", type=Folder(), help="Directory of the server's server.json."),
        option("--token-file", type=click.Path(), help="File with the token."),
        option(
            "--url",
            metavar="URL",
            help="The server, for example http://127.0.0.1:8633; several of one queue, in the order"
            " in which they are asked, with commas between.",
        ),
    ):
        command = decorate(command)
    return cast(F, command)


def _open_client(waits: bool, **where: str | None) -> "Client":
    load_http()
    from queued_runner.client.api import Client
    from queued_runner.client.locate import find_server

    locate = functools.partial(find_server, **where)
    return Client(locate(), relocate=locate, on_notice=say, detach=None if waits else 0.0)


def say(text: str) -> None:
    """A message of ours to the person, never among a job's output on stdout.

    What others chose (the name of a field, a path) may be part of it: no terminal obeys it.
    """
    click.echo("queued-runner: " + "\n".join(map(printable, text.split("\n"))), err=True)
