"""Buildbot 4.3.0: a framework for continuous integration, in Python, with its state in SQLite.

Run as: a master and a worker on this machine, no web server; eight builders whose builds run at
once on the worker, each with an eighth of the jobs as its steps, started by one `buildbot
sendchange`. Output is captured as always: sent to the master, which keeps it in its database,
compressed.
Fair because: steps are the cheapest thing Buildbot can run; a build for each job would cost more.
One build alone runs its steps one after the other, at less than half the rate. Three steps of each
build are through before the clock starts; it starts with the first build's next step and ends with
the last build's last, which are one step more a build and counted. It gets 80 jobs and 40 MB at
most: at ten jobs a second the rest would be waiting.
It does not: end a step without its rows in the database, which is more than most peers here do.
"""

from pathlib import Path

from benchmarks.peers import environment

NAME = "Buildbot"
BUILDS = 8
MAX_STEPS = 80
MAX_SIZE = 40_000_000
CONFIGURATION = """\
from buildbot.plugins import changes, schedulers, steps, util, worker


def factory(number):
    commands = [
        *[["/bin/true"]] * 3,
        ["touch", f"{folder}/begin-{{number}}"],
        *jobs,
        ["touch", f"{folder}/end-{{number}}"],
    ]
    return util.BuildFactory([steps.ShellCommand(command=command) for command in commands])


jobs = {jobs!r}
names = [str(number) for number in range({builds})]
BuildmasterConfig = {{
    "workers": [worker.Worker("worker", "password", max_builds={builds})],
    "protocols": {{"pb": {{"port": "tcp:{port}:interface=127.0.0.1"}}}},
    "change_source": [changes.PBChangeSource(user="user", passwd="password")],
    "schedulers": [
        schedulers.AnyBranchScheduler(name="all", treeStableTimer=None, builderNames=names)
    ],
    "builders": [
        util.BuilderConfig(name=name, workernames=["worker"], factory=factory(name))
        for name in names
    ],
    "db": {{"db_url": "sqlite:///state.sqlite"}},
    "buildbotNetUsageData": None,
    "title": "benchmark",
    "titleURL": "http://localhost/",
    "buildbotURL": "http://localhost/",
}}
"""


def prepare(folder: Path) -> None:
    environment.install_python(folder, "buildbot")


def true_rate(folder: Path, total: int) -> float:
    steps = max(1, min(total, MAX_STEPS) // BUILDS)
    return BUILDS * (steps + 1) / _seconds(folder, BUILDS, [["/bin/true"]] * steps)


def output_rate(folder: Path, size: int) -> float:
    size = min(size, MAX_SIZE)
    return size / 1e6 / _seconds(folder, 1, [["head", "-c", str(size), "/dev/zero"]])


def _seconds(folder: Path, builds: int, jobs: list[list[str]]) -> float:
    master_program = environment.program(folder, "buildbot", "buildbot")
    worker_program = environment.program(folder, "buildbot", "buildbot-worker")
    with environment.workplace(folder) as here:
        port = environment.free_port()
        address = f"127.0.0.1:{port}"

        def run(*argv: str | Path) -> None:
            with environment.running(argv, here) as child:
                environment.finish(child, here, 60)

        run(master_program, "create-master", "master")
        (here / "master" / "master.cfg").write_text(
            CONFIGURATION.format(folder=here, jobs=jobs, builds=builds, port=port)
        )
        run(master_program, "upgrade-master", "master")
        run(worker_program, "create-worker", "worker", address, "worker", "password")
        with (
            environment.running([master_program, "start", "--nodaemon", "master"], here),
            environment.running([worker_program, "start", "--nodaemon", "worker"], here),
        ):
            connected = here / "worker" / "twistd.log"
            environment.wait_for(
                lambda: connected.exists() and "Connected to" in connected.read_text(),
                here, 60, "the worker",
            )  # fmt: skip
            run(
                master_program, "sendchange", "--master", address, "--auth", "user:password",
                "--who", "benchmark", "--branch", "main", "file",
            )  # fmt: skip
            environment.wait_for(
                lambda: len(list(here.glob("end-*"))) == builds, here, 300, "the builds"
            )
        begin = min(file.stat().st_mtime for file in here.glob("begin-*"))
        return max(file.stat().st_mtime for file in here.glob("end-*")) - begin
