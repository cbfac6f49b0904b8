"""The documents tell the truth: their commands work, their links and file names exist."""

import re
import subprocess
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from queued_runner import lifecycle
from queued_runner.cli.serve import serve
from remote_runner.protocol import states
from simple_worker.cli import main as work
from tests.commands import PATIENCE, ROOT, Service

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


@pytest.mark.parametrize(("document", "table"), [("protocol", states), ("architecture", lifecycle)])
def test_the_diagram_is_the_table(document: str, table: ModuleType) -> None:
    assert f"```mermaid\n{table.mermaid()}\n```" in (ROOT / f"docs/{document}.md").read_text()


def _blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_quick_start_works(service: Service) -> None:
    """Every `sh` block of the README, in order: two stay open, the others are run.

    Only the ports are not the README's: free ones, so that nothing on this machine is disturbed.
    """
    server, worker, run, later, http = _blocks()
    environment = dict(service.env)
    del environment["DUPLEX_RUNNER_DATA_DIR"]

    def open_shell(name: str, command: str) -> subprocess.Popen[bytes]:
        return service.start(
            name, "bash", "-ec", f"exec {command}", cwd=service.folder, env=environment
        )

    def in_third_shell(commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", commands], cwd=service.folder, env=environment, capture_output=True,
            text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    service.wait_until_ready(open_shell("server", server))
    environment["DUPLEX_WORKER_SERVER"] = f"127.0.0.1:{service.facts['port']}"
    open_shell("worker", worker)
    done = in_third_shell(run)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n"), service.logs()

    where = next(line for line in run.splitlines() if line.startswith("export"))
    done = in_third_shell(f"set -e\n{where}\n{later}")
    assert done.returncode == 0, done.stderr
    assert "done\n" in done.stdout

    done = in_third_shell(http.replace("8633", str(service.facts["http_port"])))
    assert done.returncode == 0, done.stderr
    assert '"hello"' in done.stdout


@pytest.mark.parametrize(("command", "port"), [(serve, "8632"), (serve, "8633"), (work, "8632")])
def test_the_ports_of_the_readme_are_the_defaults(command: click.Command, port: str) -> None:
    assert port in CliRunner().invoke(command, ["--help"]).output
