"""Every example in the help of a verb is run, in a shell, against a real service.

A verb's epilog has its examples: lines that begin with spaces and a command; what stands behind two
spaces on such a line explains it. They may count on what `prepared` prepares.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from queued_runner.cli.verbs import VERBS, load_verb
from tests.commands import PATIENCE, ROOT, Service

STAYS = re.compile(r"queued-runner (serve\b|events\b.* (-f|--follow)\b|ps\b.* (-w|--watch)\b)")
WAITS_FOR_FAILURES = re.compile("queued-runner wait .*--group")
DELETES = ("prune", "delete")

LEAVES_RESULTS = (
    'echo out; echo err >&2; test -z "$JOB_SCRATCH" ||'
    ' { mkdir -p "$JOB_SCRATCH/results" && echo 1 > "$JOB_SCRATCH/results/report.txt"; }'
)


def examples_of(verb: str) -> list[str]:
    """The commands in a verb's epilog, without what explains them."""
    lines = (load_verb(verb).epilog or "").splitlines()
    indented = [line.strip().removeprefix("$ ") for line in lines if line.startswith(" ")]
    return [re.split(r"\s{2,}", line)[0] for line in indented if "queued-runner " in line]


EXAMPLES = [
    example for verb in sorted(VERBS, key=DELETES.__contains__) for example in examples_of(verb)
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers, `w1` and `w2` (os=linux); jobs 1 to 20, of the group nightly, that have ended.

    Job 17 and the last one succeeded, and left a result; job 3 failed. In `at-rest` lie a queue
    that no server has, `state`, and its export.
    """
    with Service(tmp_path_factory.mktemp("examples")) as service:
        service.start_server()
        for name in ("w1", "w2"):
            service.start_worker(name, 2, "--label", "os=linux")
        programs = service.folder / "bin"
        programs.mkdir()
        (programs / "queued-runner").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -m queued_runner "$@"\n'
        )
        (programs / "queued-runner").chmod(0o755)
        service.env["PATH"] = f"{programs}:{service.env['PATH']}"
        service.env["PYTHONPATH"] = str(ROOT)
        jobs = [{"command": "false" if number == 3 else "true"} for number in range(1, 17)]
        jobs += [{"command": LEAVES_RESULTS, "shell": True}] + [{"command": "true"}] * 3
        ids = service.submit_many([{**job, "group": "nightly"} for job in jobs])
        assert ids == list(range(1, 21))
        service.wait_for(lambda: all(job["finished_at"] for job in service.jobs()), "the jobs")
        at_rest = service.folder / "at-rest"
        service.verb("migrate", "--data-dir", at_rest / "state")
        service.verb("export", "--data-dir", at_rest / "state", "-o", at_rest / "queue.jsonl")
        yield service


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb: str) -> None:
    assert examples_of(verb)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_works(prepared: Service, tmp_path: Path, example: str) -> None:
    (tmp_path / "a file").touch()
    shutil.copytree(prepared.folder / "at-rest", tmp_path, dirs_exist_ok=True)
    if "last" in example:
        prepared.run("sh", "-c", LEAVES_RESULTS, name="the last one")
    command = ["bash", "-o", "pipefail", "-c", _without_missing_programs(example)]
    if STAYS.search(example):
        _run_until_it_says_something(prepared, command, tmp_path)
        return
    done = subprocess.run(
        command, cwd=tmp_path, env=prepared.env, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode in ((0, 1) if WAITS_FOR_FAILURES.match(example) else (0,)), done
    assert b"Traceback" not in done.stderr


def _without_missing_programs(example: str) -> str:
    """The example up to a filter that is not installed here: `jq` is no part of this project."""
    first, *filters = example.split(" | ")
    for index, text in enumerate(filters):
        if shutil.which(text.split()[0]) is None and not text.startswith("queued-runner"):
            return " | ".join([first, *filters[:index]])
    return example


def _run_until_it_says_something(service: Service, command: list[str], folder: Path) -> None:
    """What stays until Ctrl-C is run on a terminal, and left as a person leaves it."""
    ours, theirs = pty.openpty()
    # Whatever runs the tests in the background may ignore Ctrl-C, which children would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, cwd=folder, env=service.env, stdin=subprocess.DEVNULL, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    os.close(theirs)
    try:
        service.submit("true", group="nightly")  # something to say
        said = os.read(ours, 65_536)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) in (0, 130, -signal.SIGINT), said
        assert b"Traceback" not in said
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait(PATIENCE)
        os.close(ours)
