"""Bad input gets a clear error that says what to do next, and does no harm."""

import socket
import subprocess
import sys

import pytest


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


def test_without_a_server_the_client_says_how_to_start_one(service):
    done = service.verb("ps")
    assert done.returncode == 125
    assert b"start it with: queued-runner serve" in done.stderr


def test_an_unknown_job_is_named(running):
    done = running.verb("show", "999999")
    assert done.returncode != 0
    assert b"999999" in done.stderr


def test_a_second_server_on_the_same_directory_is_refused(service):
    first = service.start_server()
    second = service._start("second", "remote_runner", "--port", 0, "--http-port", 0)
    assert second.wait(20) != 0
    assert str(first.pid) in (service.folder / "second.log").read_text()


def test_a_port_in_use_names_the_option(service):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = service._start(
            "server", "remote_runner", "--port", port, "--data-dir", service.data_dir
        )
        assert server.wait(20) != 0
    assert "--port" in (service.folder / "server.log").read_text()


def test_a_public_address_is_refused_before_a_port_is_opened(service):
    done = subprocess.run(
        [sys.executable, "-m", "remote_runner", "--host", "0.0.0.0", "--port", "0"],
        env=service.env,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 78
    assert b"127.0.0.1" in done.stderr
