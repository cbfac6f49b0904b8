"""What torture runs as a job: `job.py FOLDER KIND [LINES]`, and what it prints, as a function.

It writes itself down first, holds a lock that no other attempt of the job may find held, prints its
pattern, and exits as its kind says. The standard library alone, so that it starts at once.
"""

import fcntl
import os
import signal
import sys
import time

STEADY = 7
"""What a job exits with that is told how many lines to print, one each 10 ms."""
BLOCK = 100
"""Lines that are written at once, unless a kind writes them one by one."""
FAILURE = 3


class Kind:
    """How a job behaves: lines on each stream, seconds after each `block` lines, and more."""

    def __init__(
        self, stdout: int, stderr: int, pause: float = 0.0, *, block: int = 1,
        forks: bool = False, fails_once: bool = False, status: int = 0,
    ) -> None:  # fmt: skip
        self.lines = {"stdout": stdout, "stderr": stderr}
        self.pause = pause
        self.block = block if pause else BLOCK
        self.forks = forks
        self.fails_once = fails_once
        self.status = status

    def exit_code(self, attempt: int) -> int:
        """What an attempt that ends by itself exits with."""
        return FAILURE if self.fails_once and attempt == 1 else self.status


KINDS = {
    "small": Kind(20, 10),
    "large": Kind(9_000, 2_000),  # 200 KiB: more than the database keeps beside the row
    "flowing": Kind(20_000, 500, 0.01, block=BLOCK),  # some of it is on its way at any moment
    "silent": Kind(0, 0),
    "slow": Kind(60, 20, 0.02),
    "long": Kind(500, 20, 0.03),
    "endless": Kind(100_000, 0, 0.03),
    "forking": Kind(5, 0, forks=True),
    "failing": Kind(3, 3, fails_once=True),
}


def pattern(job: int, attempt: int, stream: str, begin: int, end: int) -> bytes:
    """The lines from `begin` up to `end` of what this attempt prints."""
    head = f"{job}.{attempt} {stream} "
    return "".join([f"{head}{number:06}\n" for number in range(begin, end)]).encode()


def _write(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]


def _main(folder: str, name: str, lines: int | None = None) -> int:
    job, attempt = int(os.environ["JOB_ID"]), int(os.environ["JOB_ATTEMPT"])
    kind = KINDS[name] if lines is None else Kind(lines, 0, 0.01, status=STEADY)
    witness = os.open(f"{folder}/witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def testify(word: str) -> None:
        os.write(witness, f"{word} {job} {attempt} {os.getpid()}\n".encode())

    lock = os.open(f"{folder}/locks/{job}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        testify("overlaps")
    testify("begins")
    if kind.forks and not os.fork():
        os.setsid()
        for number in (0, 1, 2):
            os.close(number)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1000)
    step = kind.block
    for begin in range(0, max(kind.lines.values()), step):
        for number, (stream, count) in enumerate(kind.lines.items(), 1):
            _write(number, pattern(job, attempt, stream, begin, min(begin + step, count)))
        time.sleep(kind.pause)
    return kind.exit_code(attempt)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
