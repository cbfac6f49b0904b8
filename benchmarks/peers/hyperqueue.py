"""HyperQueue 0.27.0: a scheduler for many small tasks, in Rust.

Run as: the package on the Python index brings no `hq` command, so a `LocalCluster` of its Python
interface: server, a worker with 8 cores and the client in one process, which talk over TCP. One job
of N tasks. Each task's output is captured as by default, into a file each for stdout and stderr.
Fair because: cluster and worker are up and 50 tasks are through before the clock starts. Its client
looks for the end once a second; so the end is when the last file of output was made or last
written, which is before the task's end, in its favour. Eight cores are as many as our slots.
It does not: write down its queue (a LocalCluster has no journal), flush output to disk, or carry
output at all: the task itself writes into a file on the worker's disk, so the figure for output is
that of the disk's cache.
"""

from pathlib import Path

from benchmarks.peers import environment

NAME = "HyperQueue"


def prepare(folder: Path) -> None:
    environment.install_python(folder, "hyperqueue")


def true_rate(folder: Path, total: int) -> float:
    return total / _seconds(folder, total, "/bin/true")


def output_rate(folder: Path, size: int) -> float:
    return size / 1e6 / _seconds(folder, 1, "head", "-c", str(size), "/dev/zero")


def _seconds(folder: Path, total: int, *command: str) -> float:
    python = environment.program(folder, "hyperqueue", "python")
    script = environment.HERE / "hyperqueue_cluster.py"
    with environment.workplace(folder) as here:
        with (here / "seconds").open("wb") as answer:
            argv = [python, "-I", script, str(here), str(total), *command]
            with environment.running(argv, here, stdout=answer) as child:
                environment.finish(child, here, 300)
        return float((here / "seconds").read_text().split()[-1])
