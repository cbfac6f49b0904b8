"""The options that give a job secrets: what is sent, and that no value is in what is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from queued_runner.jobs import JobSpec
from tests.cli.conftest import StartVerb, Verb
from tests.cli.service_thread import ServiceThread


def sent(service: ServiceThread) -> JobSpec:
    """The job that was taken last."""
    return service.queue.jobs[max(service.queue.jobs)].spec


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("KEY", "-----BEGIN-----\nkey material\n-----END-----\n")
    monkeypatch.setenv("SHORT", "hu")
    monkeypatch.setenv("NO_TEXT", "hunter2\udcff")
    monkeypatch.delenv("UNSET", raising=False)


def test_a_variable_of_ours_goes_with_the_job_and_is_hidden(
    service: ServiceThread, verb: Verb
) -> None:
    done = verb("submit", "--secret-env", "TOKEN", "--secret-env", "KEY", "-e", "A=b", "x", "--y")
    assert done.exit_code == 0, done.stderr
    spec = sent(service)
    assert spec.env == {
        "A": "b",
        "TOKEN": "hunter2",
        "KEY": "-----BEGIN-----\nkey material\n-----END-----\n",
    }
    assert spec.mask == (spec.env["TOKEN"], spec.env["KEY"])
    assert spec.args == ("--y",)


@pytest.mark.parametrize(
    "content",
    [b"hunter2\ntwo words\n", b"\r\nhunter2\r\n\n  \ntwo words", b"hunter2\nhunter2\ntwo words"],
)
def test_texts_come_from_the_command_line_and_from_a_file(
    service: ServiceThread, verb: Verb, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "secrets"
    file.write_bytes(content)
    verb("submit", "--mask", "a\nb c", "--mask", "", "--mask", "more", "--mask-file", file, "x")
    assert sent(service).mask == ("a\nb c", "more", "hunter2", "two words")


def test_several_texts_in_a_variable_stand_on_a_line_each(
    service: ServiceThread, verb: Verb
) -> None:
    verb("submit", "x", env={"DUPLEX_RUNNER_MASK": "hunter2\n\ntwo words\n"})
    assert sent(service).mask == ("hunter2", "two words")
    verb("submit", "x", env={"DUPLEX_RUNNER_SECRET_ENV": "TOKEN KEY"})
    assert set(sent(service).env) == {"TOKEN", "KEY"}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--secret-env", "UNSET"], 2, "UNSET: there is no such variable"),
        (["--secret-env", "SHORT"], 2, "SHORT: its value has less than 3 bytes"),
        (["--secret-env", "NEW=hunter2"], 2, "the name of a variable alone"),
        (["--secret-env", "TOKEN", "-e", "TOKEN=hunter3"], 2, "both give TOKEN"),
        (["--secret-env", "NO_TEXT"], 125, "UTF-8"),
        (["--mask", "hu"], 125, "mask[0]: a secret of less than 3 bytes"),
        (["--mask", "hunter2" * 3000], 125, "mask: the secrets have 16,384 bytes"),
        (["--mask-file", "/no/such/file"], 2, "does not exist"),
        (["--mask-file", "latin1"], 2, "it is not UTF-8 text"),
    ],
)
def test_what_cannot_be_hidden_is_refused_without_a_value(
    service: ServiceThread,
    verb: Verb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin1").write_bytes(b"hunter2\xe9\n")
    done = verb("submit", *options, "true")
    assert (done.exit_code, service.queue.jobs) == (status, {})
    assert words in done.stderr
    assert "hunter" not in done.output


def test_nothing_that_is_printed_shows_one(service: ServiceThread, verb: Verb) -> None:
    command = ["--", "login", "--password=hunter2", "aHVudGVyMg=="]
    printed: list[str] = []

    def say(*arguments: Any) -> str:
        done = verb(*arguments)
        assert done.exit_code == 0, done.stderr
        printed.append(done.output)
        return done.stdout

    say("submit", "--json", "--secret-env", "TOKEN", "--name", "hunter2!", *command)
    say("submit", "--mask", "hunter2", *command)
    shown = json.loads(say("show", 1, "--json"))
    assert (shown["mask"], shown["env"]) == (["***"], {"TOKEN": "***"})
    assert shown["args"] == ["--password=***", "***"]
    assert "  mask     ***\n" in say("show", 1)
    assert "login '--password=***' '***'" in say("ps")
    assert json.loads(say("ps", "--json"))[0]["mask"] == ["***"]
    assert "hunter" not in "".join(printed)


def test_a_job_without_secrets_is_shown_as_before(service: ServiceThread, verb: Verb) -> None:
    verb("submit", "true")
    assert sent(service).mask == ()
    assert "mask" not in verb("show", 1).stdout
    assert json.loads(verb("show", 1, "--json").stdout)["mask"] == []


def test_the_value_of_a_variable_is_in_no_command_line(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    running = start_verb("run", "--secret-env", "TOKEN", "sleep", "9")
    service.wait_until(lambda: service.queue.jobs)
    assert b"hunter2" not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
