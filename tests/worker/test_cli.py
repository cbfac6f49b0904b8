"""`python -m simple_worker`: wrong options, its identity on disk, signals."""

import signal
import subprocess
import sys

import pytest

from tests.commands import PATIENCE, ROOT, is_alive


def run_worker(home, *options):
    return subprocess.run(
        [sys.executable, "-m", "simple_worker", *options],
        cwd=ROOT,
        env={"HOME": str(home), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--server", "bad"], "'bad' is not HOST:PORT, for example 127.0.0.1:8632"),
        (["--server", "host:99999"], "'host:99999' is not HOST:PORT"),
        (["--server", ":8632"], "':8632' is not HOST:PORT"),
        (["--server", "a:1,b"], "'b' is not HOST:PORT"),
        (["--server", "a:1", "--server", "b:0"], "'b:0' is not HOST:PORT"),
        (["--server", "host:٣"], "'host:٣' is not HOST:PORT"),
        (["--server", "a..b:1"], "'a..b' cannot be the name of a host"),
        (["--server", f"{'x' * 64}:1"], "cannot be the name of a host"),
        (["--label", "x"], "'x' is not KEY=VALUE, for example os=linux"),
        (["--label", "=x"], "'=x' is not KEY=VALUE"),
        (["--slots", "0"], "0 is not in the range"),
        (["--token-file", "/no/such"], "does not exist"),
        (["--work-dir", "/no/such"], "does not exist"),
        (["--spool-limit", "much"], "'much' is not a size; write 1000000, 64KiB or 1GiB"),
        (["--sever", "x:1"], "Did you mean one of: '--server'"),
    ],
)
def test_a_wrong_option_gets_a_sentence(tmp_path, options, sentence):
    done = run_worker(tmp_path, *options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "holds characters that no token has")],
)
def test_a_file_without_a_token_gets_a_sentence(tmp_path, content, sentence):
    (tmp_path / "token").write_bytes(content)
    done = run_worker(tmp_path, "--token-file", str(tmp_path / "token"))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_used_gets_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    done = run_worker(tmp_path, "--state-dir", str(tmp_path / "file"))
    assert done.returncode == 74
    assert str(tmp_path / "file") in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        (
            "no.such.invalid:8632",
            "no connection to the runner at no.such.invalid:8632 (--server): ",
        ),
        ("[::1]:1", "no connection to the runner at [::1]:1 (--server): "),
    ],
)
def test_a_runner_that_cannot_be_reached_is_named(service, server, sentence):
    service.start(
        "lost", sys.executable, "-m", "simple_worker", "--name", "lost",
        "--server", server, "--state-dir", service.folder / "lost",
    )  # fmt: skip
    service.wait_for(lambda: sentence in service.logs(), "the sentence")
    assert "Errno" not in service.logs()


@pytest.mark.parametrize(
    "options",
    [
        ["--server", "127.0.0.1:1,[::1]:1"],
        ["--server", "127.0.0.1:1", "--server", "[::1]:1", "--server", "127.0.0.1:1"],
        None,
    ],
)
def test_several_servers_are_tried_in_turn(service, options):
    if options is None:
        service.env["DUPLEX_WORKER_SERVER"] = "127.0.0.1:1,[::1]:1"
    service.start(
        "lost", sys.executable, "-m", "simple_worker", "--name", "lost",
        *(options or []), "--state-dir", service.folder / "lost",
    )  # fmt: skip
    for address in ("127.0.0.1:1", "[::1]:1"):
        sentence = f"no connection to the runner at {address} (--server): "
        service.wait_for(lambda text=sentence: text in service.logs(), "the sentence")
    assert ":8632" not in service.logs()


def test_a_worker_at_the_http_port_is_told_so(service):
    service.start_server()
    port = service.facts["url"].rpartition(":")[2]
    service.start(
        "lost", sys.executable, "-m", "simple_worker", "--name", "lost",
        "--server", f"127.0.0.1:{port}", "--state-dir", service.folder / "lost",
    )  # fmt: skip
    sentence = f"no work from the runner at 127.0.0.1:{port} (--server): nobody there who welcomes"
    service.wait_for(lambda: sentence in service.logs(), "the sentence")


def test_a_second_sigterm_ends_the_trees_and_the_worker(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    service.submit("sh", "-c", f"trap '' TERM; setsid sleep 1000 & echo $! $$ > {file}; sleep 1000")
    pids = service.read_pids(file, 2)
    worker.send_signal(signal.SIGTERM)
    service.wait_for(lambda: "waiting for 1 running job\n" in service.logs(), "the drain")
    assert all(is_alive(pid) for pid in pids)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert not any(is_alive(pid) for pid in pids)
