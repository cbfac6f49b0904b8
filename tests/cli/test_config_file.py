"""`--config`: defaults from a file, for the client verbs and for the service."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Verb, jobs
from tests.cli.service_thread import ServiceThread


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_flag_over_environment_over_file(
    service: ServiceThread, verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.do(service.queue.add, *jobs(5))
    file = write(tmp_path, "[ps]\njson = true\nlimit = 1\n")
    assert verb("--config", file, "ps").stdout.count('"id"') == 1
    monkeypatch.setenv("DUPLEX_RUNNER_LIMIT", "2")
    assert verb("--config", file, "ps").stdout.count('"id"') == 2
    assert verb("--config", file, "ps", "--limit", 3).stdout.count('"id"') == 3


@pytest.mark.parametrize(
    "text",
    ["limit = 'many'", "limit = [1]", "limit = inf", "limit = 1979-05-27", "limt = 3", "limit ="],
)
def test_a_broken_file_is_a_usage_error(verb: Verb, tmp_path: Path, text: str) -> None:
    done = verb("--config", write(tmp_path, text), "ps")
    assert done.exit_code == 2
    assert "lim" in done.stderr or "config.toml" in done.stderr


def test_a_file_that_is_not_there_is_named(verb: Verb) -> None:
    done = verb("--config", "/no/such/file", "ps")
    assert done.exit_code == 2
    assert "/no/such/file" in done.stderr


@pytest.mark.parametrize("command", [["remote_runner"], ["queued_runner", "serve"]])
@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ('[serve]\nhost = "0.0.0.0"', 78, "--host 127.0.0.1"),
        ('http-host = "0.0.0.0"\nlimit = 3', 78, "--http-host 127.0.0.1"),
        ("prot = 1", 2, "did you mean 'port'?"),
        ("port = 'x'", 2, "'x' is not a valid integer range"),
    ],
)
def test_the_service_reads_the_same_file(
    tmp_path: Path, command: list[str], text: str, status: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--config", write(tmp_path, text)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert words in " ".join(done.stderr.split())


def test_a_value_that_an_option_cannot_have_names_the_file(verb: Verb, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('priority = "abc"')
    done = verb("submit", "true", env={"DUPLEX_RUNNER_CONFIG": str(file)})
    assert done.exit_code == 2
    assert f"{file}: 'abc' is not a valid integer" in done.stderr
    assert str(file) not in verb("--config", file, "submit", "--priority", "abc", "true").stderr
