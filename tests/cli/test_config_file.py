"""`--config`: defaults from a file, for the client verbs and for the service."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from queued_runner.cli.config_file import read_defaults
from queued_runner.cli.verbs import VERBS
from tests.cli.conftest import ROOT, Verb, jobs
from tests.cli.service_thread import ServiceThread


def test_shared_keys_reach_the_verbs_that_have_them() -> None:
    defaults = read_defaults('group = "g"\njson = true\n[ps]\nlimit = 3\n[run]\ngroup = "h"\n')
    assert set(defaults) == set(VERBS)
    assert defaults["ps"] == {"group": "g", "as_json": True, "limit": 3}
    assert defaults["run"] == {"group": "h"}
    assert defaults["serve"] == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "there is no key 'prot'; did you mean 'port'?"),
        ("[serv]\nport = 1", "there is no table 'serv'; did you mean 'serve'?"),
        ("[ps]\nlimt = 1", "there is no key of [ps] 'limt'; did you mean 'limit'?"),
        ("[ps]\nport = 1", "there is no key of [ps] 'port'"),
        ("config = 'x'", "there is no key 'config'"),
        ("port = = 1", "line 1"),
    ],
)
def test_what_no_option_has_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        read_defaults(text)


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


@pytest.mark.parametrize("text", ["limit = 'many'", "limt = 3", "limit ="])
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
