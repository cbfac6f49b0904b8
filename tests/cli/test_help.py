"""Help, usage errors, completion, and what a verb costs to load. No server is there."""

import subprocess
import sys

import click
import pytest
from click.shell_completion import get_completion_class

from queued_runner.cli.group import cli
from queued_runner.cli.verbs import VERBS, load_verb
from tests.cli.conftest import ROOT, Verb

HEAVY = ("trio", "fastapi", "starlette", "pydantic", "apsw", "anycorn", "structlog", "rich")

OTHER_MEANING = {
    ("prune", "DUPLEX_RUNNER_KEEP_FAILED"): "DUPLEX_RUNNER_PRUNE_KEEP_FAILED",
}
"""Variables that another verb has taken for something else."""


def options_of(name: str) -> list[click.Option]:
    return [item for item in load_verb(name).params if isinstance(item, click.Option)]


def test_the_help_names_every_verb(verb: Verb) -> None:
    done = verb("--help")
    assert done.exit_code == 0
    for name, (_, summary) in VERBS.items():
        assert f"{name} " in done.stdout
        assert summary in done.stdout


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_names_its_variables(verb: Verb, name: str) -> None:
    done = verb(name, "--help")
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    for option in options_of(name):
        variable = "DUPLEX_RUNNER_" + option.opts[0].strip("-").replace("-", "_").upper()
        variable = OTHER_MEANING.get((name, variable), variable)
        assert variable in text.replace("_ ", "_"), option.name


def test_no_verb_is_a_usage_error(verb: Verb) -> None:
    assert verb().exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sbmit"], "Did you mean 'submit'?"),
        (["frobnicate"], "There is no verb 'frobnicate'"),
        (["ps", "--limt", "3"], "--limit"),
        (["ps", "--state", "runing"], "'running'"),
        (["run", "--timout", "3", "--", "true"], "--timeout"),
        (["run"], "Missing argument 'COMMAND...'"),
        (["run", "--timeout", "soon", "--", "true"], "write 90, 90s, 15m or 1h30m"),
        (["run", "--env", "A", "--", "true"], "'A' is not KEY=VALUE"),
        (["run", "--stdin", "/no/such/file", "--", "true"], "/no/such/file"),
        (["cancel", "1", "--signal", "FOO"], "write TERM, INT or KILL"),
        (["cancel"], "or --group"),
        (["wait"], "or --group"),
        (["wait", "1", "--group", "g"], "or --group"),
        (["wait", "3-"], "write 17, 3,5-8, last or all"),
        (["logs", "3,4"], "write one, as 17 or last"),
        (["show", "all"], "write one, as 17 or last"),
        (["logs", "1", "--tail", "-1"], "--tail"),
        (["retry"], "or --group"),
        (["explain", "1-3"], "write one, as 17 or last"),
        (["prune"], "Missing option '--older-than'"),
        (["prune", "--older-than", "soon"], "write 90, 90s, 15m or 1h30m"),
        (["import"], "Missing argument 'FILE'"),
        (["import", "/no/such/file"], "/no/such/file"),
        (["export", "--store", "mysql://x"], "the store is sqlite:///PATH or postgresql://"),
        (["migrate", "--store", "postgresql://u:secret@h/d"], "there is a password in it"),
    ],
)
def test_usage_errors_say_what_is_right(verb: Verb, arguments: list[str], words: str) -> None:
    done = verb(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "queued_runner"],
        cwd=ROOT,
        env={"_QUEUED_RUNNER_COMPLETE": f"{shell}_source", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert b"_QUEUED_RUNNER_COMPLETE" in done.stdout
    assert b"queued-runner" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        ([], "wa", {"wait"}),
        ([], "", set(VERBS)),
        (["logs"], "--t", {"--tail", "--timestamps", "--token-file"}),
        (["ps", "--state"], "qu", {"queued"}),
        (["run"], "--on", {"--on-lost"}),
    ],
)
def test_completion(shell: str, words: list[str], begun: str, found: set[str]) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    completer = kind(cli, {}, "queued-runner", "_QUEUED_RUNNER_COMPLETE")
    assert {item.value for item in completer.get_completions(words, begun)} == found


def loaded(statement: str) -> set[str]:
    """The modules there are after a statement, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {statement}; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_client_verbs_load_nothing_of_the_server() -> None:
    modules = loaded(
        "import queued_runner.client.api, queued_runner.cli.group;"
        "from queued_runner.cli.verbs import VERBS, load_verb;"
        "[load_verb(name) for name in VERBS]"
    )
    assert "httpx2" in modules
    assert not modules & set(HEAVY)


def test_help_loads_no_client() -> None:
    assert "httpx2" not in loaded("from queued_runner.cli.verbs import load_verb; load_verb('run')")
