"""A service that cannot run says why, and which option to change; its status is for scripts."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT
from tests.cli.service_thread import PATIENCE


def serve(data_dir: Path, *options: object) -> tuple[int, str]:
    """The status and the words of a service that is expected not to run."""
    done = subprocess.run(
        [sys.executable, "-m", "remote_runner", "--data-dir", str(data_dir),
         "--port", "0", "--http-port", "0", *(str(item) for item in options)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("option", ["--port", "--http-port", "--json-port"])
def test_a_port_in_use(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, words = serve(tmp_path, option, port)
    assert status == 74
    assert f"port {port}" in words
    assert f"choose another port with {option}, or 0 for any free one" in words
    assert not (tmp_path / "server.json").exists()


def test_a_data_dir_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    status, words = serve(file / "state")
    assert status == 74
    assert words.count("\n") == 1
    assert "choose another with --data-dir" in words


@pytest.mark.parametrize("option", ["--host", "--http-host"])
def test_an_address_that_others_reach(tmp_path: Path, option: str) -> None:
    status, words = serve(tmp_path / "state", option, "0.0.0.0")
    assert status == 78
    assert f"{option} 127.0.0.1" in words
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"), (b" \n", "is empty"), (b"caf\xc3\xa9", "holds characters that"),
        (b"a\nb", "holds characters that"), (b"\xff", "holds characters that"),
        (None, "cannot be read: Is a directory"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("option", [None, "--worker-token-file"])
def test_a_token_file_that_holds_none(
    tmp_path: Path, option: str | None, content: bytes | None, words: str
) -> None:
    file = tmp_path / "token"
    if content is None and option is None:
        file.mkdir()
    elif content is None:
        file.symlink_to("/proc/self/mem")  # a file, whose first byte cannot be read
        words = "cannot be read: Input/output error"
    else:
        file.write_bytes(content)
    folder = tmp_path if option is None else tmp_path / "state"
    status, said = serve(folder, *([] if option is None else [option, file]))
    assert status == 78
    assert f"the token file {file} {words}" in said
    assert said.rstrip().splitlines()[-1].startswith("remote-runner: ")
    assert not (folder / "server.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--detach", "29s"], "detach must be at least 30 s, and not 29 s"),
        (["--heartbeat", "1m"], "detach must be at least 180 s, and not 120 s"),
        (["--heartbeat", "0"], "heartbeat must be at least 0.1 s"),
    ],
)
def test_times_that_can_never_work(tmp_path: Path, options: list[str], words: str) -> None:
    status, said = serve(tmp_path / "state", *options)
    assert status == 78
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--port", "65536", "--port"), ("--detach", "soon", "write 90, 90s"),
        ("--retention", "0", "write never"), ("--keep-failed", "long", "or never"),
        ("--max-log-size", "big", "write 1000000"), ("--log-level", "loud", "'debug'"),
        ("--cors-origin", "*", "write https://ci.example"),
        ("--worker-token-file", "/no/such", "/no/such"), ("--prot", "1", "--port"),
    ],
)  # fmt: skip
def test_usage_errors(tmp_path: Path, option: str, value: str, words: str) -> None:
    status, said = serve(tmp_path, option, value)
    assert status == 2
    assert words in said
