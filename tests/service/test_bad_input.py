"""Bad input gets a clear error that says what to do next, and does no harm."""

import socket
import sys

import pytest

from tests.commands import PATIENCE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sbmit"], b"submit"),
        (["run", "--timout", "3", "--", "true"], b"--timeout"),
        (["run"], b"COMMAND"),
        (["run", "--timeout", "soon", "--", "true"], b"not a duration"),
    ],
)
def test_usage_errors_suggest(running, arguments, words):
    done = running.verb(*arguments)
    assert done.returncode == 2
    assert words.lower() in done.stderr.lower()


def test_a_wrong_token_says_where_the_right_one_is(running):
    env = {**running.env, "DUPLEX_RUNNER_TOKEN": "wrong", "DUPLEX_RUNNER_URL": running.facts["url"]}
    done = running.verb("ps", env=env)
    assert done.returncode == 125
    assert b"DUPLEX_RUNNER_TOKEN" in done.stderr


def test_without_a_server_the_client_says_how_to_start_one(service):
    done = service.verb("ps")
    assert done.returncode == 125
    assert b"start it with: queued-runner serve" in done.stderr


@pytest.mark.parametrize("verb", ["show", "logs", "wait", "cancel"])
def test_an_unknown_job_is_named(running, verb):
    done = running.verb(verb, "999999")
    assert done.returncode != 0
    assert b"999999" in done.stderr


def start_another(service, *options):
    """A server that is expected not to start: its exit code and what it says."""
    other = service.start("other", sys.executable, "-m", "remote_runner", *options)
    return other.wait(PATIENCE), (service.folder / "other.log").read_text()


def test_a_second_server_on_the_same_directory_is_refused(service):
    first = service.start_server()
    code, words = start_another(service)
    assert code != 0
    assert str(first.pid) in words
    assert "--data-dir" in words


@pytest.mark.parametrize("option", ["--port", "--http-port", "--json-port"])
def test_a_port_in_use_names_the_option(service, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, words = start_another(service, option, port)
    assert code != 0
    assert str(port) in words
    assert f"{option}," in words


@pytest.mark.parametrize("option", ["--host", "--http-host"])
def test_a_public_address_is_refused_before_a_port_is_opened(service, option):
    code, words = start_another(service, option, "0.0.0.0")
    assert code == 78
    assert f"{option} 127.0.0.1" in words
    assert not service.data_dir.exists()
