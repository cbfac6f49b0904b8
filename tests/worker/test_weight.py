"""The worker needs trio, msgpack and click, with what these need, and nothing else at all."""

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import trio

from remote_runner.runner import RemoteRunner
from tests.commands import ROOT
from tests.worker.real import PATIENCE

NEEDED = ["trio", "msgpack", "click", "attrs", "sortedcontainers", "outcome", "sniffio", "idna"]


@pytest.fixture
def bare(tmp_path):
    """Options of `Popen` for a Python that finds only what a worker may need."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in NEEDED:
        package = distribution(name)
        tops = {file.parts[0] for file in package.files or () if file.suffix in (".py", ".so")}
        for top in tops:
            (folder / top).symlink_to(Path(str(package.locate_file(top))))
    for name in ("remote_runner", "simple_worker", "queued_runner"):
        (folder / name).symlink_to(ROOT / name)
    return {"cwd": tmp_path, "env": {"PYTHONPATH": str(folder), "HOME": str(tmp_path)}}


WORKER = [sys.executable, "-S", "-s", "-W", "error", "-m", "simple_worker"]


def test_there_is_nothing_else_there(bare):
    code = [sys.executable, "-S", "-s", "-c", "import structlog"]
    assert b"No module named" in subprocess.run(code, capture_output=True, **bare).stderr


def test_help(bare):
    done = subprocess.run([*WORKER, "--help"], capture_output=True, timeout=PATIENCE, **bare)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--server" in done.stdout


async def test_a_job_runs(bare):
    runner, outputs = RemoteRunner(port=0), []
    with trio.fail_after(PATIENCE):
        async with runner.open():
            worker = await trio.lowlevel.open_process(
                [*WORKER, "--server", f"127.0.0.1:{runner.port}", "--once"],
                stderr=subprocess.PIPE, **bare,
            )  # fmt: skip
            outcome = await runner.run("sh", ["-c", "echo hi; exit 4"], on_output=outputs.append)
            assert await worker.wait() == 0
            assert b"Traceback" not in await worker.stderr.receive_some()
            await worker.stderr.aclose()
    assert outcome.exit_code == 4
    assert b"".join(output.data for output in outputs) == b"hi\n"


def test_everything_public_is_there():
    import queued_runner
    import remote_runner

    for package in (remote_runner, queued_runner):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = package.nothing
