"""A job that leaves processes behind in every way it can: `brute.py WITNESS STAYS HOW MARK`.

It and all its processes ignore what may be ignored. `HOW` its grandchild, in a session of its own,
behaves: `holds` the pipe, `writes` into it, `closes` it, or is `bare`: without an environment too.
The standard library alone, so that it starts at once.
"""

import os
import signal
import sys
import time


def _linger(how: str, mark: str) -> None:
    """Never return."""
    if how in ("closes", "bare"):
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
    if how == "bare":
        argv = [sys.executable, "-ISs", __file__, "", "stays", "asleep", mark]
        os.execve(sys.executable, argv, {})
    while True:
        time.sleep(0.05 if how == "writes" else 1000)
        if how == "writes":
            try:
                os.write(1, b"still here\n")
            except OSError:
                pass


def _main(witness: str, stays: str, how: str, mark: str) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    if how == "asleep":
        time.sleep(100_000)
    if not os.fork():
        os.setsid()
        if not os.fork():
            _linger(how, mark)
        os._exit(0)
    os.wait()
    with open(witness, "a", buffering=1) as file:
        file.write(f"begins {os.environ['JOB_ID']} {os.environ['JOB_ATTEMPT']} {os.getpid()}\n")
    if stays == "stays":
        time.sleep(100_000)


if __name__ == "__main__":
    _main(*sys.argv[1:])
