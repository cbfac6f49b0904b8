"""Every example is run as a reader would run it, against the real commands."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.commands import PATIENCE, ROOT, Service

EXAMPLES = ROOT / "examples"


def run_to_end(service: Service, name: str, *argv: object, **options: object) -> tuple[int, str]:
    """A command that ends by itself: its exit code and what it printed."""
    code = service.start(name, *argv, **options).wait(2 * PATIENCE)
    return code, (service.folder / f"{name}.log").read_text()


def test_baseline_worker_is_short() -> None:
    assert len((EXAMPLES / "baseline_worker.py").read_text().splitlines()) <= 25


def test_baseline_worker_runs_jobs(service: Service) -> None:
    service.start_server()
    service.start("worker", sys.executable, EXAMPLES / "baseline_worker.py", service.facts["port"])

    job, output = service.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (job["state"], job["exit_code"]) == ("failed", 7)
    assert sorted(output.splitlines()) == [b"err", b"out"]

    job, output = service.run("sh", "-c", "kill -KILL $$")
    assert (job["state"], job["signal"]) == ("failed", "SIGKILL")

    job, output = service.run("sh", "-c", "pwd; echo $A", cwd="/", env={"A": "b"})
    assert (job["state"], output) == ("succeeded", b"/\nb\n")

    job, output = service.run("head", "-c", "300000", "/dev/zero")
    assert (job["state"], output) == ("succeeded", bytes(300_000))

    job, output = service.run("no-such-command")
    assert (job["state"], job["exit_code"]) == ("failed", 127)
    assert b"no-such-command" in output


@pytest.mark.parametrize("argv", [["--help"], [], ["0"], ["99999"]])
def test_a_worker_that_cannot_start_says_how(service: Service, argv: list[str]) -> None:
    code, said = run_to_end(
        service, "worker", sys.executable, EXAMPLES / "baseline_worker.py", *argv
    )
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("usage: baseline_worker.py PORT")


@pytest.mark.parametrize("facts", [None, "{}", '{"url": "http://127.0.0.1:1", "token_file": "x"}'])
def test_shards_without_a_server_say_how(
    service: Service, tmp_path: Path, facts: str | None
) -> None:
    service.data_dir.mkdir()
    (tmp_path / "test_it.py").touch()
    (tmp_path / "x").write_text("token")
    if facts is not None:
        (service.data_dir / "server.json").write_text(facts)
    example = (EXAMPLES / "sharded_tests.py", tmp_path, "--data-dir", service.data_dir)
    code, said = run_to_end(service, "shards", sys.executable, *example, cwd=tmp_path)
    assert (code, said.count("\n")) == (2, 1)
    assert "--data-dir" in said
    assert "python -m remote_runner" in said


@pytest.mark.skipif(shutil.which("npm") is None, reason="node and npm are not installed")
def test_node_worker_runs_jobs(service: Service) -> None:
    folder = service.folder / "node_worker"
    shutil.copytree(EXAMPLES / "node_worker", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder, check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    service.start_server("--json-port", 0)
    service.start("worker", "node", "worker.js", service.facts["json_port"], cwd=folder)

    job, output = service.run("sh", "-c", "printf 'a\\303\\251\\377'; exit 3")
    assert (job["state"], job["exit_code"]) == ("failed", 3)
    assert output == b"a\xc3\xa9\xff"

    job, output = service.run("head", "-c", "300000", "/dev/zero")
    assert (job["state"], output) == ("succeeded", bytes(300_000))

    job, output = service.run("sh", "-c", "kill -KILL $$")
    assert (job["state"], job["signal"]) == ("failed", "SIGKILL")

    job, output = service.run("no-such-command")
    assert (job["state"], job["exit_code"]) == ("failed", 127)


def test_embed(service: Service) -> None:
    code, printed = run_to_end(service, "embed", sys.executable, EXAMPLES / "embed.py")
    assert code == 0, printed
    assert "stdout: computed 42" in printed
    assert "stderr: done" in printed
    assert "exit code 0" in printed


SUITE = {
    "test_good.py": """
        import pytest
        @pytest.mark.parametrize("n", range(30))
        def test_it(n): pass
    """,
    "test_bad.py": "def test_it(): assert 2 != 2",
    "test_error.py": """
        import pytest
        @pytest.fixture
        def broken(): raise RuntimeError("no fixture")
        def test_it(broken): pass
    """,
    "test_skipped.py": """
        import pytest
        @pytest.mark.skip
        def test_one(): pass
        @pytest.mark.xfail
        def test_two(): assert False
    """,
    "test_empty.py": "",
    "deep/test_other.py": "def test_it(): pass",
}


def counts_of(file: Path) -> dict[str, int]:
    """What a JUnit report counts, and what it contains."""
    root = ElementTree.parse(file).getroot()
    names = ("tests", "failures", "errors", "skipped")
    suites = list(root.iter("testsuite"))
    counts = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in names}
    return {**counts, "cases": len(list(root.iter("testcase")))}


def test_sharded_tests_give_the_report_of_an_unsharded_run(
    service: Service, tmp_path: Path
) -> None:
    suite = tmp_path / "suite"
    for name, text in SUITE.items():
        (suite / name).parent.mkdir(parents=True, exist_ok=True)
        (suite / name).write_text(textwrap.dedent(text))
    service.start_server()
    service.start_worker("w1")
    service.start_worker("w2")

    def shard(name: str, *shards: object) -> tuple[int, str]:
        example = EXAMPLES / "sharded_tests.py"
        options = ("--data-dir", service.data_dir, "--junit", tmp_path / "merged.xml", *shards)
        return run_to_end(service, name, sys.executable, example, suite, *options, cwd=tmp_path)

    code, printed = shard("first", "--shards", 3)
    assert code == 1, printed
    assert "assert 2 != 2" in printed
    assert "35 tests, 1 failures, 1 errors, 2 skipped in 3 shards" in printed
    assert {job["state"] for job in service.jobs()} >= {"succeeded", "failed"}

    alone = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite]
    service.start("alone", *alone, f"--junitxml={tmp_path}/alone.xml").wait(PATIENCE)
    assert counts_of(tmp_path / "merged.xml") == counts_of(tmp_path / "alone.xml")

    for bad in ("test_bad.py", "test_error.py"):
        (suite / bad).unlink()
    code, printed = shard("second", "--", "-k", "not test_other")
    assert code == 0, printed
    assert "32 tests, 0 failures, 0 errors, 2 skipped in 4 shards" in printed
