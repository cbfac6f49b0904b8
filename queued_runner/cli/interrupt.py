"""Signals while a job is watched: what would end a command that ran here cancels the job, once.
And while jobs are sent: what has begun is done before this program ends.

A server that is away gets to know it when it is back; a second Ctrl-C leaves at once. SIGTERM and
SIGHUP may come twice by themselves, from `timeout` or from a terminal that closes: another one
changes nothing. The handler never touches the connection that the main thread reads: no byte is
lost or doubled.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from queued_runner.cli.exit_status import CANCELLED
from queued_runner.cli.options import Connect

AGAIN: Final = 0.5
"""Seconds between two tries to reach a server that is away."""


@contextmanager
def put_off_interrupt(what: str, farewell: str) -> Iterator[None]:
    """A first Ctrl-C waits until this is left, and says so; another one does not.

    Args:
        what: is done before.
        farewell: what to say of it where it is not.

    Raises:
        KeyboardInterrupt: there was one.
    """
    is_wanted = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal is_wanted
        if is_wanted:
            _say(farewell)
            raise KeyboardInterrupt
        is_wanted = True
        _say(f"{what}; Ctrl-C again leaves at once")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if is_wanted:
        raise KeyboardInterrupt


@contextmanager
def cancelling_on_interrupt(connect: Connect) -> Iterator[Callable[[int], None]]:
    """Handle signals while entered; the function that it gives names the job, once there is one."""
    interrupt = _Interrupt(connect)
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` asks to go on
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt.on_signal) for number in numbers}
    try:
        yield interrupt.watch_over
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Interrupt:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._job_id: int | None = None
        self._is_wanted = False
        self._is_away = False

    def watch_over(self, job_id: int) -> None:
        self._job_id = job_id
        if self._is_wanted:
            self._start_cancel(job_id)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_wanted:
            if number == signal.SIGINT:
                _say(self._farewell())
                os._exit(CANCELLED)
            return
        self._is_wanted = True
        again = " again" if number == signal.SIGINT else ""
        what = "" if self._job_id is None else f" job {self._job_id}"
        _say(f"cancelling{what}, until its processes are gone; Ctrl-C{again} leaves at once")
        if self._job_id is not None:
            self._start_cancel(self._job_id)
        else:
            threading.Thread(target=self._leave_if_away, daemon=True).start()

    def _farewell(self) -> str:
        if self._job_id is None:
            return "left; if the job is in the queue, 'queued-runner ps' shows it"
        job = self._job_id
        if self._is_away:
            return f"left; job {job} was not cancelled and goes on: queued-runner cancel {job}"
        return f"left; job {job} may still be ending: queued-runner wait {job}"

    def _start_cancel(self, job_id: int) -> None:
        threading.Thread(target=self._cancel, args=(job_id,), daemon=True).start()

    def _leave_if_away(self) -> None:
        from queued_runner.client.errors import ClientError

        try:
            with self._connect(waits=False) as client:
                client.workers()
        except ClientError as error:
            _say(
                f"{str(error).rstrip('.')}; the job may be in the queue none the less, where"
                " 'queued-runner ps' shows it once there is a server"
            )
            os._exit(error.exit_code)  # the main thread goes on trying

    def _cancel(self, job_id: int) -> None:
        from queued_runner.client.errors import ClientError, Unreachable

        while True:
            try:
                with self._connect(waits=False) as client:
                    client.cancel(job_id)
                self._is_away = False
                return
            except Unreachable:
                # The main thread waits for it too, and ends this program when it has for too long.
                if not self._is_away:
                    self._is_away = True
                    _say(f"job {job_id} is cancelled as soon as the server is back")
                time.sleep(AGAIN)
            except ClientError as error:
                _say(
                    f"job {job_id} could not be cancelled: {str(error).rstrip('.')};"
                    f" it may go on; cancel it later with: queued-runner cancel {job_id}"
                )
                os._exit(error.exit_code)


def _say(text: str) -> None:
    """Past Python's buffers, which the interrupted code may be busy with."""
    start = "\n" if os.isatty(2) else ""  # the terminal has just echoed ^C
    with suppress(OSError):  # it is gone, and the job is to end for just that reason
        os.write(2, f"{start}queued-runner: {text}\n".encode())
