"""The command line of the worker: options, identity on disk, signals."""

import functools
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click
import trio

from remote_runner.errors import UnusableSettings
from remote_runner.garbage import collect_garbage_rarely
from remote_runner.sizes import parse_size
from remote_runner.standard_streams import fill
from remote_runner.token_file import read_token
from simple_worker.http_client import HttpClient
from simple_worker.machine import opened_own_machine
from simple_worker.process import ProcessHost
from simple_worker.pull import PullWorker
from simple_worker.session import VERSION, Identity
from simple_worker.spool_files import SpoolFolder
from simple_worker.state_folder import StateFolder, held_state
from simple_worker.worker import Server, Worker


def default_state_dir() -> Path:
    """The platform's state directory for a worker."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "duplex-runner" / "worker"


def _addresses(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, int]]:
    """Each once: one that is named twice is dialled no more often."""
    return list(dict.fromkeys(_address(one) for value in values for one in value.split(",")))


def _address(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    is_number = port.isascii() and port.isdigit() and len(port) <= 5
    if not (colon and host and is_number) or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, for example 127.0.0.1:8632")
    host = host.strip("[]")
    try:
        host.encode("idna")  # as the look-up of its address does
    except UnicodeError as error:
        raise click.BadParameter(f"{host!r} cannot be the name of a host") from error
    return host, int(port)


def _server_url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    try:
        if url is not None:
            HttpClient(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return url


def _server(host: str, port: int) -> Server:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Server(
        functools.partial(trio.open_tcp_stream, host, port), f"the runner at {shown} (--server)"
    )


def _size(_: click.Context, __: click.Parameter, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _labels(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, for example os=linux")
        labels[key] = text
    return labels


def _token(_: click.Context, __: click.Parameter, path: Path | None) -> str | None:
    try:
        return None if path is None else read_token(path)
    except UnusableSettings as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option(
    "--server", "addresses", multiple=True, default=["127.0.0.1:8632"], show_default=True,
    callback=_addresses, metavar="HOST:PORT[,HOST:PORT…]",
    envvar="DUPLEX_WORKER_SERVER", show_envvar=True,
    help="The runner: all servers of one queue, tried in turn; repeatable.",
)  # fmt: skip
@click.option(
    "--slots", type=click.IntRange(1, 10_000), default=os.cpu_count() or 1, show_default="CPUs",
    envvar="DUPLEX_WORKER_SLOTS", show_envvar=True, help="Jobs at once.",
)  # fmt: skip
@click.option(
    "--name", default=socket.gethostname(), show_default="host name",
    envvar="DUPLEX_WORKER_NAME", show_envvar=True,
)  # fmt: skip
@click.option(
    "--label", "labels", multiple=True, callback=_labels, metavar="KEY=VALUE",
    envvar="DUPLEX_WORKER_LABEL", show_envvar=True, help="What jobs may need; repeatable.",
)  # fmt: skip
@click.option(
    "--state-dir", type=click.Path(path_type=Path), default=default_state_dir,
    envvar="DUPLEX_WORKER_STATE_DIR", show_envvar=True,
    help="Where the worker's id lies, and by what its jobs are found.",
)  # fmt: skip
@click.option(
    "--token-file", "token", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    callback=_token,
    envvar="DUPLEX_WORKER_TOKEN_FILE", show_envvar=True,
)  # fmt: skip
@click.option(
    "--work-dir", type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="DUPLEX_WORKER_WORK_DIR", show_envvar=True, help="Where scratch directories are made.",
)  # fmt: skip
@click.option(
    "--spool-limit", default="1GiB", show_default=True, callback=_size, metavar="SIZE",
    envvar="DUPLEX_WORKER_SPOOL_LIMIT", show_envvar=True,
    help="Output of all jobs that may wait on disk, below the work directory, for a runner that"
    " is away: then jobs that print wait too. 0: only memory.",
)  # fmt: skip
@click.option(
    "--pull", callback=_server_url, metavar="URL",
    envvar="DUPLEX_WORKER_PULL", show_envvar=True,
    help="Pull jobs over HTTP, from a server with --agent-api, in place of --server.",
)  # fmt: skip
@click.option(
    "--min-free-disk", default="1GiB", show_default=True, callback=_size, metavar="SIZE",
    envvar="DUPLEX_WORKER_MIN_FREE_DISK", show_envvar=True,
    help="Take no new jobs while less is free there; a twentieth of a small disk is enough.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Leave when the work is done.")
@click.version_option(VERSION)
def main(
    addresses: list[tuple[str, int]],
    slots: int,
    name: str,
    labels: dict[str, str],
    state_dir: Path,
    token: str | None,
    work_dir: Path | None,
    spool_limit: int,
    min_free_disk: int,
    pull: str | None,
    once: bool,
) -> None:
    """Run jobs for a runner on this machine. SIGTERM drains; a second one ends the jobs."""

    fill()

    def say(line: str) -> None:
        click.echo(f"simple-worker {name}: {line}", err=True)

    def worker_of(worker_id: str, machine: ProcessHost) -> Worker | PullWorker:
        identity = Identity(worker_id, secrets.token_hex(8), name, slots, labels, token)
        if pull is not None:
            client = HttpClient(pull, token)
            return PullWorker(identity, client, machine, rng=random.random, say=say, once=once)
        return Worker(
            identity,
            [_server(*address) for address in addresses],
            machine,
            rng=random.random,
            now=time.time,
            say=say,
            spool=SpoolFolder(
                machine.folder.path,
                spool_limit,
                say,
                restore=machine.folder.restore,
                min_free=min_free_disk,
            ),
            once=once,
        )

    async def work(state: StateFolder) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # one that comes as it leaves does not end it
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with opened_own_machine(work_dir, say, state.life) as machine:
                async with trio.open_nursery() as nursery:
                    worker = worker_of(state.worker_id, machine)
                    nursery.start_soon(obey, signals, worker, nursery)
                    await worker.run()
                    nursery.cancel_scope.cancel()

    async def obey(
        signals: AsyncIterator[int], worker: Worker | PullWorker, nursery: trio.Nursery
    ) -> None:
        await anext(signals)
        say("draining: no new jobs; what runs may finish, a second signal ends it")
        worker.drain()
        await anext(signals)
        say("ending what runs")
        nursery.start_soon(worker.stop)
        await anext(signals)
        nursery.cancel_scope.cancel()

    collect_garbage_rarely()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would take our children's status
    try:
        with held_state(state_dir, say, name) as state:
            state.end_last_life()
            trio.run(work, state)
    except OSError as error:
        click.echo(f"simple-worker: {error}", err=True)
        sys.exit(74)
