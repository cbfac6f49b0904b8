"""A runner of somebody else, installed from its own package: found, chosen, true to its word."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import PATIENCE, ROOT, Service

SOURCE = ROOT / "tests" / "thirdparty"
NAME = "process-group"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed in, apart from everything else."""
    folder = tmp_path_factory.mktemp("thirdparty")
    source = shutil.copytree(SOURCE, folder / "source")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-build-isolation", "--no-deps", "--no-index", "--target", folder / "installed",
         source],
        capture_output=True, text=True, check=False, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "installed"


@pytest.fixture
def service(service: Service, installed: Path) -> Iterator[Service]:
    service.env["PYTHONPATH"] = str(installed)
    return service


def test_it_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    check = shutil.copy(SOURCE / "check_contract.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error",
         check],
        env={"PYTHONPATH": f"{installed}:{ROOT}", "PATH": "/usr/bin:/bin"}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_it_runs_the_jobs_of_a_server(service: Service, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[serve]\nrunner = "{NAME}"\n[runners.{NAME}]\nslots = 3\n')
    service.start_server("--config", config)
    assert "port" not in service.facts  # no worker can connect: there is nobody who listens
    [worker] = service.json("workers")
    assert (worker["name"], worker["slots"]) == (NAME, 3)
    done = service.verb("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    job = service.job(1)
    assert (job["state"], job["exit_code"], job["worker"]) == ("failed", 7, NAME)
    job, _ = service.run("no-such-command")
    assert (job["reason"], job["exit_code"]) == ("spawn-error", 127)
    job_id = service.submit("sleep", "1000")
    service.wait_for(lambda: service.job(job_id)["state"] == "running", "the job to run")
    service.cancel(job_id)
    service.wait_for(lambda: service.job(job_id)["state"] == "cancelled", "its end")


def test_it_is_chosen_by_name_beside_slots_of_this_program(service: Service) -> None:
    service.start_server("--runner", NAME, "--local-slots", 1)
    assert [worker["name"] for worker in service.json("workers")] == [NAME, "local"]


@pytest.mark.parametrize(
    ("options", "config", "code", "words"),
    [
        (["--runner", "process-grup"], "", 2,
         "no runner called 'process-grup' is installed (there is: local, process-group, remote);"
         " did you mean 'process-group'?"),
        (["--runner", NAME], f"[runners.{NAME}]\nslot = 1", 78,
         f"the runner '{NAME}' does not take these options: got an unexpected keyword argument"
         f" 'slot'; they stand in the table [runners.{NAME}] of the configuration file"),
        (["--runner", NAME], f"[runners.{NAME}]\nslots = 0", 78, "a whole number of slots above 0"),
        ([], "[runners.remote]\nport = 1", 78, "the runner 'remote' has no options of its own"),
        (["--runner", NAME], "[runners]\nslots = 1", 2, "'runners' holds a table a runner"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(
    service: Service, tmp_path: Path, options: list[str], config: str, code: int, words: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(config)
    server = service.start(
        "said", sys.executable, "-m", "remote_runner", "--config", file, *options
    )
    assert server.wait(PATIENCE) == code
    assert words in " ".join((service.folder / "said.log").read_text().split())


def test_a_package_that_is_broken_is_named(service: Service, installed: Path) -> None:
    broken = service.folder / "broken"
    shutil.copytree(next(installed.glob("*.dist-info")), broken / "process_group.dist-info")
    service.env["PYTHONPATH"] = str(broken)
    server = service.start("said", sys.executable, "-m", "remote_runner", "--runner", NAME)
    assert server.wait(PATIENCE) == 78
    said = (service.folder / "said.log").read_text()
    assert said.startswith(f"remote-runner: the runner '{NAME}' (process_group_runner:")
    assert "cannot be imported: No module named 'process_group_runner'" in said


@pytest.mark.parametrize(("options", "slots"), [(["--local-slots", 3], 3), ([], None)])
def test_the_programs_own_slots_are_a_runner_too(
    service: Service, options: list[object], slots: int | None
) -> None:
    service.start_server("--runner", "local", *options)
    [worker] = service.json("workers")
    assert worker["name"] == "local"
    assert slots is None or worker["slots"] == slots
