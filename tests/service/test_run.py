"""A remote run feels local: the real client verbs against a real server and worker."""

import hashlib
import os
import signal

import pytest

from tests.commands import PATIENCE, is_alive


def test_both_streams_and_the_exit_status_come_back(running):
    done = running.verb("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.returncode == 7
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_a_command_that_does_not_exist_is_127_and_one_line(running):
    done = running.verb("run", "--", "/no/such/thing")
    assert done.returncode == 127
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert b"/no/such/thing: command not found" in done.stderr


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        (["/etc/passwd"], [], b"Permission denied"),
        (["true"], ["--cwd", "/no/such/dir"], b"/no/such/dir does not exist"),
    ],
)
def test_what_cannot_be_executed_is_126(running, command, options, words):
    done = running.verb("run", *options, "--", *command)
    assert done.returncode == 126
    assert words in done.stderr


def test_a_timeout_is_124(running):
    assert running.verb("run", "--timeout", "1", "--", "sleep", "60").returncode == 124
    assert 1 <= running.json("ps")[0]["duration"] < 3


def test_a_signal_is_128_and_its_number(running):
    assert running.verb("run", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_stdin_is_passed_whole(running, tmp_path):
    file = tmp_path / "input"
    file.write_bytes(os.urandom(100_000))
    done = running.verb("run", "--stdin", file, "--", "wc", "-c")
    assert done.stdout.split() == [b"100000"]


def test_large_binary_output_is_exact(running, tmp_path):
    file = tmp_path / "big"
    file.write_bytes(os.urandom(50_000_000))
    done = running.verb("run", "--", "cat", file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(file.read_bytes()).digest()


def test_the_environment_is_small_and_tells_the_job_who_it_is(running):
    done = running.verb("run", "--env", "MINE=1", "--name", "n", "--", "env")
    names = {line.split(b"=")[0].decode() for line in done.stdout.splitlines()}
    assert {"JOB_ID", "JOB_ATTEMPT", "JOB_NAME", "JOB_WORKER", "JOB_SCRATCH", "MINE"} <= names
    assert not any(name.startswith(("DUPLEX", "PYTHON")) for name in names)


def test_submit_logs_show_and_wait(running):
    job = running.verb("submit", "--", "sh", "-c", "echo hello; exit 3").stdout.strip().decode()
    assert job.isdigit()
    assert running.verb("wait", job).returncode == 3
    assert running.verb("logs", job).stdout == b"hello\n"
    shown = running.json("show", job)
    assert (shown["state"], shown["exit_code"], shown["worker"]) == ("failed", 3, "w1")
    assert int(job) in [row["id"] for row in running.json("ps")]
    assert running.json("workers")[0]["name"] == "w1"


def test_retries_are_spent_and_counted(running, tmp_path):
    file = tmp_path / "count"
    script = f"echo x >> {file}; test $(wc -l < {file}) = 3"
    done = running.verb("run", "--retries", 5, "--backoff", "0.01", "--", "sh", "-c", script)
    assert done.returncode == 0
    assert file.read_text() == "x\n" * 3


def test_cancel_ends_the_whole_tree_setsid_included(running, tmp_path):
    file = tmp_path / "pids"
    script = f"trap '' TERM; setsid sleep 1000 & echo $! $$ > {file}; wait; sleep 1000"
    job = running.submit("sh", "-c", script)
    pids = running.read_pids(file, 2)
    assert running.verb("cancel", "--grace", "1", job).returncode == 0
    running.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the end of the tree", 1 + 2)
    assert running.verb("wait", job).returncode == 130


def test_a_background_child_does_not_outlive_its_job(running, tmp_path):
    file = tmp_path / "pid"
    script = f"setsid sleep 1000 >/dev/null 2>&1 & echo $! > {file}"
    assert running.verb("run", "--", "sh", "-c", script).returncode == 0
    assert not is_alive(int(file.read_text()))


def test_ctrl_c_cancels(running, tmp_path):
    file = tmp_path / "pid"
    client = running.start_verb("run", "--", "sh", "-c", f"echo $$ > {file}; sleep 1000")
    (pid,) = running.read_pids(file, 1)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=PATIENCE)
    assert client.returncode == 130
    assert not is_alive(pid)


def test_output_beyond_the_cap_is_dropped_told_and_does_not_stall_the_job(running):
    command = ["head", "-c", "20000000", "/dev/zero"]  # more than a worker holds unacknowledged
    done = running.verb("run", "--max-log-size", 1000, "--", *command)
    assert (done.returncode, done.stdout) == (0, bytes(1000))
    assert b"19999000 bytes of output" in done.stderr
    done = running.verb("logs", "last")
    assert done.stdout == bytes(1000)
    assert b"19999000 bytes of output" in done.stderr
