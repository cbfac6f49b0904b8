"""Ctrl-C while a job is watched: the first cancels the job, the second leaves at once.

The handler never touches the connection that the main thread reads: no byte is lost or doubled.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from queued_runner.cli.exit_status import CANCELLED
from queued_runner.cli.options import Connect


@contextmanager
def cancelling_on_interrupt(connect: Connect) -> Iterator[Callable[[int], None]]:
    """Handle Ctrl-C while entered; the function that it gives names the job, once there is one."""
    interrupt = _Interrupt(connect)
    before = signal.signal(signal.SIGINT, interrupt.on_signal)
    try:
        yield interrupt.watch_over
    finally:
        signal.signal(signal.SIGINT, before)


class _Interrupt:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._job_id: int | None = None
        self._is_wanted = False

    def watch_over(self, job_id: int) -> None:
        self._job_id = job_id
        if self._is_wanted:
            self._start_cancel(job_id)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            os._exit(CANCELLED)
        self._is_wanted = True
        _say("cancelling; Ctrl-C again leaves at once")
        if self._job_id is not None:
            self._start_cancel(self._job_id)

    def _start_cancel(self, job_id: int) -> None:
        threading.Thread(target=self._cancel, args=(job_id,), daemon=True).start()

    def _cancel(self, job_id: int) -> None:
        from queued_runner.client.errors import ClientError

        try:
            with self._connect() as client:
                client.cancel(job_id)
        except ClientError as error:
            _say(f"the job could not be cancelled: {error}")


def _say(text: str) -> None:
    """Past Python's buffers, which the interrupted code may be busy with."""
    start = "\n" if os.isatty(2) else ""  # the terminal has just echoed ^C
    os.write(2, f"{start}queued-runner: {text}\n".encode())
