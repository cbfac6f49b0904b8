"""`run`: queue a command and stay until it ends, as if it ran here.

It owns what Ctrl-C and a closed pipe do to the job. The output passes through byte by byte; the
exit status is the job's.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from queued_runner.cli.exit_status import CANCELLED, ending, exit_status
from queued_runner.cli.group import SIGPIPE_STATUS
from queued_runner.cli.job_options import PASS_ON, job_json, job_options
from queued_runner.cli.options import open_client, server_options
from queued_runner.cli.output import ByteSink
from queued_runner.client import Chunk, Client
from queued_runner.http.locate import ClientError


@click.command(context_settings=PASS_ON)
@server_options
@job_options
@click.pass_context
def run(
    ctx: click.Context, /, url: str | None, token_file: str | None, data_dir: str | None, **job: Any
) -> None:
    """Queue a command and stay until it ends.

    Its output comes out here, live and byte-exact, and its exit status is ours. Ctrl-C cancels it;
    a second Ctrl-C leaves at once.
    """
    spec = job_json(**job)

    def connect() -> Client:
        return open_client(url=url, token_file=token_file, data_dir=data_dir)

    interrupt = _Interrupt(connect)
    with connect() as client, interrupt.handling():
        job_id = client.submit(spec)
        interrupt.set_job(job_id)
        try:
            outcome = _follow(client, job_id)
        except BrokenPipeError:
            # A command that ran here would now get SIGPIPE: this one ends as well.
            client.cancel(job_id)
            _close_stdout()
            ctx.exit(SIGPIPE_STATUS)
    status = exit_status(outcome)
    if status and outcome["reason"] not in ("exit", "spawn-error"):  # the latter's output says it
        click.echo(f"queued-runner: job {job_id} {ending(outcome)}", err=True)
    ctx.exit(status)


def _follow(client: Client, job_id: int) -> dict[str, Any]:
    sink = ByteSink()
    attempt = 1
    for item in client.follow(job_id):
        if not isinstance(item, Chunk):
            return item
        if item.attempt != attempt:
            attempt = item.attempt
            click.echo(f"queued-runner: job {job_id}, attempt {attempt}", err=True)
        sink.write(item.stream, item.data)
    raise ClientError(f"The output of job {job_id} ended without an outcome.")


def _close_stdout() -> None:
    """What Python still holds for a pipe that nobody reads goes nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        pass


class _Interrupt:
    """Ctrl-C: first cancel the job and go on reading, then leave.

    The handler never touches the stream that the main thread reads: no byte is lost or doubled.
    """

    def __init__(self, connect: Any) -> None:
        self._connect = connect
        self._job_id: int | None = None
        self._is_wanted = False

    def set_job(self, job_id: int) -> None:
        self._job_id = job_id
        if self._is_wanted:
            self._start_cancel()

    @contextmanager
    def handling(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            os._exit(CANCELLED)
        self._is_wanted = True
        os.write(2, b"queued-runner: cancelling; Ctrl-C again leaves at once\n")
        if self._job_id is not None:
            self._start_cancel()

    def _start_cancel(self) -> None:
        threading.Thread(target=self._cancel, args=(self._job_id,), daemon=True).start()

    def _cancel(self, job_id: int) -> None:
        try:
            with self._connect() as client:
                client.cancel(job_id)
        except ClientError as error:
            os.write(2, f"queued-runner: the job could not be cancelled: {error}\n".encode())
