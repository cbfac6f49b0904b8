"""What `bash -c` makes of a command's text is the command, to the byte."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queued_runner.agents.bash import bash_text
from remote_runner.types import Command

word = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
name = st.text(st.sampled_from("ABC_é.- x'\""), min_size=1, max_size=6)


def run(command, **options):
    return subprocess.run(
        ["bash", "-c", bash_text(command)],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"}, capture_output=True, timeout=30, **options,
    )  # fmt: skip


@settings(max_examples=30)
@given(st.lists(word, max_size=4))
def test_arguments_arrive_as_they_were_given(args):
    got = run(Command("printf", ("%s\\0", "first", *args))).stdout.split(b"\0")
    assert got == [b"first", *(arg.encode() for arg in args), b""]


@settings(max_examples=30)
@given(st.dictionaries(name, word, max_size=4))
def test_variables_arrive_as_they_were_given(env):
    got = run(Command("env", ("-0",), env=env)).stdout.split(b"\0")
    assert {f"{key}={value}".encode() for key, value in env.items()} <= set(got)


@settings(max_examples=20)
@given(st.binary(max_size=300))
def test_input_arrives_to_the_byte(data):
    assert run(Command("cat", stdin=data)).stdout == data


def test_without_input_there_is_none():
    assert run(Command("cat"), input=b"of the agent").stdout == b""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Command("sh", ("-c", "exit 7")), 7),
        (Command("exit 9", shell=True), 9),
        (Command("echo", ("$0", "; exit", "3"), shell="/bin/bash"), 3),
        (Command("sh", ("-c", "kill -9 $$")), -9),
        (Command("/does/not/exist"), 127),
        (Command("/tmp"), 126),
        (Command("true", cwd="/does/not/exist"), 126),
        (Command("sh", ("-c", "exit 3"), stdin=b"unread"), 3),
        (Command("sleep", ("100",), timeout=0.05), 124),
        (Command("sh", ("-c", "trap '' TERM; sleep 100"), timeout=0.05, kill_grace=0.05), -9),
        (Command("sh", ("-c", "trap '' TERM; sleep 9"), timeout=0.05, kill_grace=0.0), -9),
    ],
)
def test_it_ends_as_the_command_does(command, code):
    assert run(command).returncode == code


@pytest.mark.parametrize("folder", ["-", "a b'c", "$HOME"])
def test_it_runs_in_its_folder(tmp_path, folder):
    (tmp_path / folder).mkdir()
    assert run(Command("pwd", cwd=folder), cwd=tmp_path).stdout.decode() == f"{tmp_path}/{folder}\n"


def test_a_command_whose_name_is_like_a_variable(tmp_path):
    program = tmp_path / "A=B"
    program.write_text('#!/bin/sh\necho "$@" "$C"\n')
    program.chmod(0o755)
    assert run(Command(str(program), ("x y",), env={"C": "D"})).stdout == b"x y D\n"
