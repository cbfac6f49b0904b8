"""Every example is run as a reader would run it, against the real commands."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_baseline_worker_is_short() -> None:
    assert len((EXAMPLES / "baseline_worker.py").read_text().splitlines()) <= 25


def test_baseline_worker_runs_jobs(service: Any) -> None:
    service.start_server()
    service.start(sys.executable, str(EXAMPLES / "baseline_worker.py"), str(service.info["port"]))

    job, output = service.run_job("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (job["state"], job["exit_code"]) == ("failed", 7)
    assert sorted(output.splitlines()) == [b"err", b"out"]

    job, output = service.run_job("sh", "-c", "kill -KILL $$")
    assert (job["state"], job["signal"]) == ("failed", "SIGKILL")

    job, output = service.run_job("head", "-c", "300000", "/dev/zero")
    assert (job["state"], output) == ("succeeded", bytes(300_000))

    job, output = service.run_job("no-such-command")
    assert (job["state"], job["exit_code"]) == ("failed", 127)
    assert b"no-such-command" in output


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_worker_runs_jobs(service: Any, tmp_path: Path) -> None:
    folder = tmp_path / "node_worker"
    shutil.copytree(EXAMPLES / "node_worker", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder, check=True, timeout=50, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    service.start_server("--json-port", "0")
    service.start("node", "worker.js", str(service.info["json_port"]), cwd=folder)

    job, output = service.run_job("sh", "-c", "printf 'a\\303\\251\\377'; exit 3")
    assert (job["state"], job["exit_code"]) == ("failed", 3)
    assert output == b"a\xc3\xa9\xff"

    job, output = service.run_job("no-such-command")
    assert (job["state"], job["exit_code"]) == ("failed", 127)


def test_embed(run_python: Run) -> None:
    done = run_python(EXAMPLES / "embed.py")
    assert done.returncode == 0, done.stderr
    assert "stdout: computed 42" in done.stdout
    assert "stderr: done" in done.stdout
    assert "exit code 0" in done.stdout


def test_sharded_tests(service: Any, run_python: Run, tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    for number in range(4):
        (suite / f"test_{number}.py").write_text(f"def test_it():\n    assert {number} != 2\n")
    service.start_server()
    service.start_worker("--slots", "2", "--name", "w1")

    done = run_python(
        EXAMPLES / "sharded_tests.py", suite, "--data-dir", service.data_dir, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    assert "3 of 4 files passed" in done.stdout
    assert "assert 2 != 2" in done.stdout

    (suite / "test_2.py").unlink()
    done = run_python(
        EXAMPLES / "sharded_tests.py", suite, "--data-dir", service.data_dir, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 files passed" in done.stdout


def test_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        capture_output=True, text=True, timeout=55, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jobs succeeded" in done.stdout
    assert list(tmp_path.iterdir()) == []
    with_our_folder = [
        process
        for process in Path("/proc").glob("[0-9]*/cmdline")
        if str(tmp_path).encode() in _read(process)
    ]
    assert with_our_folder == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended while we looked
        return b""
