"""The documents tell the truth: their commands work, their links and file names exist."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_runner.protocol.states import mermaid

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_named_files_exist(document: Path) -> None:
    packages = "remote_runner|simple_worker|queued_runner|scripts|examples|benchmarks|docs"
    for name in re.findall(rf"`((?:{packages})/[\w/.-]*)`", document.read_text()):
        assert (ROOT / name).exists(), name


def test_the_diagram_is_the_table() -> None:
    assert f"```mermaid\n{mermaid()}\n```" in (ROOT / "docs/protocol.md").read_text()


def _blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@contextlib.contextmanager
def _shell(command: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A shell of the reader that stays open with a command in it."""
    with (folder / "shell.log").open("ab") as log:
        child = subprocess.Popen(
            ["bash", "-ec", f"exec {command}"], cwd=folder, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def test_the_quick_start_works(tmp_path: Path) -> None:
    """Every `sh` block of the README, in order: two stay open, the others are run."""
    for port in (8632, 8633):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                pytest.skip(f"port {port}, which the README uses, is taken on this machine")
    server, worker, run, later, http = _blocks()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "worker-state"),
        "HOME": str(tmp_path),
    }

    def reader(commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", commands], cwd=tmp_path, env=environment, capture_output=True,
            text=True, timeout=40, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    with _shell(server, tmp_path, environment):
        deadline = time.monotonic() + 20
        while not (tmp_path / "state" / "server.json").exists():
            assert time.monotonic() < deadline, (tmp_path / "shell.log").read_text()
            time.sleep(0.05)
        with _shell(worker, tmp_path, environment):
            done = reader(run)
            log = (tmp_path / "shell.log").read_text()
            assert (done.returncode, done.stdout) == (7, "out\n"), done.stderr + log
            assert "err\n" in done.stderr

            where = next(line for line in run.splitlines() if line.startswith("export"))
            done = reader(f"set -e\n{where}\n{later}")
            assert done.returncode == 0, done.stderr
            assert "done\n" in done.stdout

            done = reader(http)
            assert done.returncode == 0, done.stderr
            assert '"hello"' in done.stdout
