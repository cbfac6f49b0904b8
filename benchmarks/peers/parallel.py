"""GNU parallel as Debian has it: a Perl program that runs a list of commands, some at once.

Run as: `parallel -j8` over a file of commands. Output is captured as by default: into temporary
files that are copied to its standard output, here a file, when their command has ended.
Fair because: that is its fastest way (`--results` and `--joblog` write more). It has nothing to
start beforehand: the time of its own start, a tenth of a second or two, is in the figure.
It does not: keep a queue, survive its own end, run on a worker that is told of over a socket, or
flush anything to disk.
"""

import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.harness import Skipped
from benchmarks.peers import environment

NAME = "GNU parallel"


def prepare(folder: Path) -> None:
    found = shutil.which("parallel")
    # moreutils has another program of this name.
    if found is None or b"GNU parallel" not in subprocess.run(
        [found, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        stdin=subprocess.DEVNULL, timeout=20,
    ).stdout:  # fmt: skip
        raise Skipped("GNU parallel is not installed: apt install parallel")


def true_rate(folder: Path, total: int) -> float:
    return total / _seconds(folder, ["/bin/true"] * total, 0)


def output_rate(folder: Path, size: int) -> float:
    return size / 1e6 / _seconds(folder, [f"head -c {size} /dev/zero"], size)


def _seconds(folder: Path, commands: list[str], size: int) -> float:
    with environment.workplace(folder) as here:
        (here / "commands").write_text("".join(f"{command}\n" for command in commands))
        argv = ["parallel", "--will-cite", "-j8", "-a", "commands"]
        with (here / "output").open("wb") as output:
            begin = time.perf_counter()
            settings = {"PARALLEL_HOME": str(here), "SHELL": "/bin/sh"}
            with environment.running(argv, here, settings, stdout=output) as child:
                environment.finish(child, here, 300)
                seconds = time.perf_counter() - begin
        stored = (here / "output").stat().st_size
        assert stored == size, f"{stored} of {size} bytes are stored"
        return seconds
