"""One line on a terminal that says how a job stands, until its output begins.

It owns that line and the task that keeps it true, and never mixes with output: the first byte of
that ends it. Where stderr is no terminal it says one thing, once: that there is no worker.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from queued_runner.cli.options import Connect, say
from queued_runner.cli.output import printable

PERIOD: Final = 0.5
"""Seconds between two looks at the job; before the first one elsewhere than on a terminal."""

LONGEST_PERIOD: Final = 30.0
"""Seconds between two looks for a worker, at most: many may wait for long."""

_CLEAR: Final = "\r\x1b[K"


def describe(job: Mapping[str, Any]) -> str:
    """How a job stands, in a few words."""
    words = f"job {job['id']} {job['state']}"
    if job["state"] == "queued" and job["pending_reason"]:
        words += f": {job['pending_reason']}"
    elif job["state"] == "running":
        words += f" on {job['worker']}" if job["worker"] else ""
        words += f", attempt {job['attempt']}" if job["attempt"] > 1 else ""
    return printable(words)


@contextmanager
def status_line(connect: Connect, job_id: int) -> Iterator[Callable[[], None]]:
    """Show the line while entered; the function that it gives takes it away for good."""
    if not sys.stderr.isatty():
        with _telling_of_no_worker(connect, job_id) as end:
            yield end
        return
    line = _Line()
    watcher = threading.Thread(target=_watch, args=(connect, job_id, line), daemon=True)
    watcher.start()
    try:
        yield line.end
    finally:
        line.end()


class _Line:
    def __init__(self) -> None:
        # The handler of Ctrl-C runs between any two steps of the thread that holds it.
        self._lock = threading.RLock()
        self.ended = threading.Event()

    def show(self, text: str) -> None:
        with self._lock:
            if not self.ended.is_set():
                width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
                sys.stderr.write(f"{_CLEAR}{text[: width - 1]}")
                sys.stderr.flush()

    def end(self) -> None:
        with self._lock:
            if not self.ended.is_set():
                self.ended.set()
                sys.stderr.write(_CLEAR)
                sys.stderr.flush()


def _watch(connect: Connect, job_id: int, line: _Line) -> None:
    from queued_runner.client.errors import ClientError

    while not line.ended.is_set():
        try:
            with connect(waits=False) as client:
                while not line.ended.wait(PERIOD):  # a job that is over by then needs no line
                    line.show(describe(client.job(job_id)))
        except ClientError:
            line.ended.wait(PERIOD)  # the one who reads the output says what is wrong


@contextmanager
def _telling_of_no_worker(connect: Connect, job_id: int) -> Iterator[Callable[[], None]]:
    ended = threading.Event()
    threading.Thread(target=_look_for_worker, args=(connect, job_id, ended), daemon=True).start()
    try:
        yield ended.set
    finally:
        ended.set()


def _look_for_worker(connect: Connect, job_id: int, ended: threading.Event) -> None:
    from queued_runner.client.errors import ClientError

    pause = PERIOD
    while not ended.wait(pause):
        pause = min(2 * pause, LONGEST_PERIOD)
        try:
            with connect(waits=False) as client:
                has_worker = bool(client.workers())
                if client.job(job_id)["state"] != "queued":
                    return
        except ClientError:
            continue  # the one who reads the output says what is wrong
        if not has_worker and not ended.is_set():
            say(f"job {job_id} waits for a worker; start one with: simple-worker")
            return
