"""`drain` and `resume`: whether a worker gets new jobs. They end nothing."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from queued_runner.cli.options import Connect, json_option, say, server_options
from queued_runner.cli.output import print_json, printable

if TYPE_CHECKING:
    from queued_runner.client.api import Client

MAX_NAMED: Final = 20
"""Workers that a message lists."""

worker_argument = click.argument("worker", metavar="WORKER")

EPILOG = """\b
Example, around an update of a machine; "workers" shows "drained" when nothing runs there:
  queued-runner drain w1
  queued-runner workers
  queued-runner resume w1
"""


@click.command(epilog=EPILOG)
@server_options
@json_option
@worker_argument
def drain(connect: Connect, as_json: bool, worker: str) -> None:
    """Start no more jobs at a worker, named by its name or id; what runs there goes on.

    It stays connected, and stays drained after a restart of it or of the server, until `resume`.
    """
    with connect() as client:
        found = client.drain_worker(find_worker(client, worker)["id"])
    if as_json:
        print_json(found)
    else:
        count = len(found["running"])
        rest = f"; what runs there goes on ({count})" if count else "; nothing runs there"
        say(f"worker {printable(found['name'])} gets no more jobs{rest}")


@click.command(epilog=EPILOG)
@server_options
@json_option
@worker_argument
def resume(connect: Connect, as_json: bool, worker: str) -> None:
    """Let a drained worker, named by its name or id, have jobs again."""
    with connect() as client:
        found = client.resume_worker(find_worker(client, worker)["id"])
    if as_json:
        print_json(found)
    else:
        away = "; it is not connected" if found["state"] == "away" else ""
        say(f"worker {printable(found['name'])} gets jobs again{away}")


def find_worker(client: "Client", name: str) -> Mapping[str, Any]:
    """The worker with this id, or with this name if no other has it.

    Raises:
        ClientError: there is none, or several; it names those there are.
    """
    from queued_runner.client.errors import ClientError

    workers = client.workers()
    for worker in workers:
        if worker["id"] == name:
            return worker
    named = [worker for worker in workers if worker["name"] == name]
    if len(named) == 1:
        return named[0]
    if named:
        raise ClientError(
            f"{len(named)} workers are called {printable(name)}; give an id instead:"
            f" {_listed(named)}."
        )
    if not workers:
        raise ClientError("No worker is connected; start one with: simple-worker")
    raise ClientError(f"There is no worker {printable(name)!r}; there are: {_listed(workers)}.")


def _listed(workers: Sequence[Mapping[str, Any]]) -> str:
    some = [f"{each['name']} ({each['id']}, {each['state']})" for each in workers[:MAX_NAMED]]
    rest = len(workers) - MAX_NAMED
    return printable(", ".join(some)) + (f" and {rest} more" if rest > 0 else "")
