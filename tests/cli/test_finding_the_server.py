"""Where the server is: options, environment, `server.json`; and who holds its directory."""

import json
import stat
from pathlib import Path

import pytest

from queued_runner import datadir
from queued_runner.client.errors import Unreachable
from queued_runner.client.locate import find_server
from queued_runner.errors import DataDirUnusable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a server and a token in it."""
    monkeypatch.setenv("DUPLEX_RUNNER_DATA_DIR", str(tmp_path))
    token = tmp_path / "token"
    token.write_text("secret\n")
    facts = {"url": "http://127.0.0.1:1", "token_file": str(token)}
    (tmp_path / "server.json").write_text(json.dumps(facts))
    return tmp_path


@pytest.mark.parametrize("content", ["{}", "[]", "null", "{", '{"url": 1}'])
def test_rubbish_is_told_as_such(folder: Path, content: str) -> None:
    (folder / "server.json").write_text(content)
    with pytest.raises(Unreachable, match=r"server\.json is not what a server writes"):
        find_server()


def test_the_command_that_starts_a_server_here(folder: Path) -> None:
    with pytest.raises(Unreachable, match=r"serve --data-dir 'an empty one'\."):
        find_server(data_dir="an empty one")


def test_nothing_is_left_of_a_file_that_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "server.json").mkdir()
    with pytest.raises(IsADirectoryError):
        datadir.write_private(tmp_path / "server.json", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["server.json"]


def test_the_default_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given_dir, state, expected in [
        ("here", "/state", "here"),
        ("", "/state", "/state/duplex-runner"),
        ("", "", "/home/me/.local/state/duplex-runner"),
        ("", "relative", "/home/me/.local/state/duplex-runner"),
    ]:
        monkeypatch.setenv("DUPLEX_RUNNER_DATA_DIR", given_dir)
        monkeypatch.setenv("XDG_STATE_HOME", state)
        assert datadir.default_data_dir() == Path(expected)


def test_the_nearest_word_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_server()
    assert (found.url, found.token) == ("http://127.0.0.1:1", "secret")
    assert found.source == str(folder / "server.json")
    monkeypatch.setenv("DUPLEX_RUNNER_URL", "ci.example:8633/")
    monkeypatch.setenv("DUPLEX_RUNNER_TOKEN", "other")
    found = find_server()
    assert (found.url, found.token) == ("http://ci.example:8633", "other")
    assert find_server(url="https://x").url == "https://x"


def test_several_servers_of_a_queue_are_asked_in_turn(folder: Path) -> None:
    found = find_server(url="a.example:1, https://b.example/,c.example", token="t")
    urls = ["http://a.example:1", "https://b.example", "http://c.example", "http://a.example:1"]
    for url in urls:
        assert found.url == url
        found = found.next
    alone = find_server(url="a.example")
    assert alone.next == alone


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": "http://x"}', "\xff"])
def test_a_broken_announcement_is_named(folder: Path, content: str) -> None:
    (folder / "server.json").write_text(content, encoding="latin-1")
    with pytest.raises(Unreachable, match=r"server\.json.*--url"):
        find_server()


@pytest.mark.parametrize("token", [b"", b"\n", b"a b\x00", b"\xc3\xa9", b"\xff"])
def test_a_broken_token_is_told_and_not_shown(folder: Path, token: bytes) -> None:
    (folder / "token").write_bytes(token)
    with pytest.raises(Unreachable, match="DUPLEX_RUNNER_TOKEN") as caught:
        find_server()
    assert "a b" not in str(caught.value)


def test_a_token_that_is_not_there_is_told(folder: Path) -> None:
    (folder / "token").unlink()
    with pytest.raises(Unreachable, match=r"token.*DUPLEX_RUNNER_TOKEN"):
        find_server()


def test_where_no_server_is_found_it_is_told_how_one_is(folder: Path) -> None:
    (folder / "server.json").unlink()
    with pytest.raises(Unreachable) as caught:
        find_server()
    assert "queued-runner serve" in str(caught.value)
    assert "started with --data-dir DIR is found with --data-dir DIR" in str(caught.value)
    assert "DUPLEX_RUNNER_DATA_DIR=DIR" in str(caught.value)


def test_one_server_holds_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    with datadir.hold(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises(DataDirUnusable, match=r"in use .* process id [0-9]+; .* --data-dir"):
            with datadir.hold(folder):
                pass
    with datadir.hold(folder):
        pass


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataDirUnusable, match=r"cannot be written: .*; choose another"):
        with datadir.hold(file / "state"):
            pass


def test_the_small_files_are_private_and_kept(tmp_path: Path) -> None:
    token = datadir.read_or_create_token(tmp_path)
    assert len(token) >= 32
    assert datadir.read_or_create_token(tmp_path) == token
    with datadir.announced(tmp_path, {"url": "http://127.0.0.1:1", "token_file": "x"}):
        facts = json.loads((tmp_path / "server.json").read_text())
        assert facts["url"] == "http://127.0.0.1:1"
        for name in ("token", "server.json"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token"]


def test_a_server_that_waits_long_for_its_workers_is_waited_for_as_long(tmp_path: Path) -> None:
    facts = {"url": "http://127.0.0.1:1", "token_file": str(tmp_path / "token")}
    (tmp_path / "token").write_text("secret")
    (tmp_path / "server.json").write_text(json.dumps({**facts, "detach": 600.0}))
    assert find_server(data_dir=str(tmp_path)).detach == 600
    (tmp_path / "server.json").write_text(json.dumps(facts))
    assert find_server(data_dir=str(tmp_path)).detach == 120
