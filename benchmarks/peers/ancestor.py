"""The ancestor: the stack of BrowserSwarm's Strider runner on Node, put together by `ancestor.js`.

Packages: duplex-emitter 2.1.2, level-jobs 2.1.1, memdb 1.3.1 (the newest of each).
Run as: one server, eight worker processes with a job at a time, as the ancestor had them, over TCP.
Each output chunk is a JSON line that spells every byte as a number.
Fair because: the queue is in memory, which is the fastest that level-jobs can be, jobs are pushed
in batches of 1,000, Node is started and 50 jobs are through before the clock starts, which Node
itself reads: nothing of ours is in the time.
It does not: keep anything. A server that ends loses queue and output, which it holds in memory; a
worker that ends loses its job. Nothing limits what is on its way: a job that prints faster than the
server reads fills the worker's memory, so it is given 200 MB at most.
"""

from pathlib import Path

from benchmarks.peers import environment

NAME = "ancestor's stack (Node)"
MAX_SIZE = 200_000_000


def prepare(folder: Path) -> None:
    environment.install_node(folder, "ancestor")


def true_rate(folder: Path, total: int) -> float:
    return total / _seconds(folder, "true", total)


def output_rate(folder: Path, size: int) -> float:
    size = min(size, MAX_SIZE)
    return size / 1e6 / _seconds(folder, "output", size)


def _seconds(folder: Path, kind: str, amount: int) -> float:
    argv = ["node", environment.HERE / "ancestor.js", kind, str(amount)]
    modules = {"NODE_PATH": str(folder / "ancestor" / "node_modules")}
    with environment.workplace(folder) as here:
        with (here / "seconds").open("wb") as answer:
            with environment.running(argv, here, modules, stdout=answer) as child:
                environment.finish(child, here, 300)
        return float((here / "seconds").read_text())
