"""Both ways to start a main process do the same, and one of them many at once."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from remote_runner.types import Command
from simple_worker import main_process
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.main_process import begin, close
from tests.worker.real import PATIENCE

is_compiled = pytest.mark.skipif(
    main_process._clone is None, reason="there was nothing here to compile _clone.c with"
)
BASE = {"PATH": os.environ["PATH"]}


def test_it_is_compiled_where_that_is_possible():
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not shutil.which("cc") or not header.exists():
        pytest.skip("there is no C compiler here, or there are no headers of Python")
    assert main_process._clone is not None


def done(main):
    """The output of one that was begun, its errors, and how it ended."""
    main.confirm()
    texts = []
    for pipe in main.pipes:
        with open(pipe, closefd=False) as file:
            texts.append(file.read())
    code, _ = main.reap()
    close((main.pidfd, *main.pipes))
    return *texts, code


def both(monkeypatch, *argv, executable=None, env=BASE, cwd=None):
    """What either way makes of a command: the same."""
    results = []
    for is_cloned in (True, False):
        with monkeypatch.context() as patch, open(os.devnull) as nothing:
            if not is_cloned:
                patch.setattr(main_process, "_clone", None)
            try:
                main = begin(argv, executable or argv[0], env, cwd, nothing.fileno())
                results.append(done(main))
            except (OSError, ValueError) as error:
                if not isinstance(error, OSError):
                    results.append(type(error))
                    continue
                results.append(error.errno)
                if is_cloned:
                    assert main.reap()[0] == 127
                    close((main.pidfd, *main.pipes))
    assert results[0] == results[1]
    return results[0]


@is_compiled
def test_signals_and_descriptors(monkeypatch):
    """What Python ignores is not ignored, what this process ignores is, and what it blocks."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        out, _, code = both(monkeypatch, "sed", "-n", "/^Sig[BIC]/p", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        signal.signal(signal.SIGUSR1, before)
    facts = dict(line.split(":\t", 1) for line in out.splitlines())
    blocked, ignored, caught = (int(facts[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt"))
    assert (code, blocked, caught) == (0, 1 << signal.SIGUSR2 - 1, 0)
    assert ignored & 1 << signal.SIGUSR1 - 1
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)
    inherited = os.dup(0)
    os.set_inheritable(inherited, True)
    try:
        assert both(monkeypatch, "ls", "/proc/self/fd") == ("0\n1\n2\n3\n", "", 0)
    finally:
        os.close(inherited)


@is_compiled
def test_a_session_an_environment_and_a_folder_of_its_own(monkeypatch, tmp_path):
    script = 'echo $0 "$1" $A "$PWD"; [ $(cut -d" " -f6 /proc/$$/stat) = $$ ] && echo own'
    env = BASE | {"A": "\udcff"}
    out, err, code = both(
        monkeypatch, "me", "-c", script, "zero", "a  b",
        executable="/bin/sh", env=BASE | {"A": "x"}, cwd=str(tmp_path),
    )  # fmt: skip
    assert (out, err, code) == (f"zero a  b x {tmp_path}\nown\n", "", 0)
    assert both(monkeypatch, "sh", "-c", 'printf %s "$A" | od -An -tx1', env=env)[0] == " ff\n"
    assert both(monkeypatch, "sh", "-c", "kill -9 $$")[2] == -9


@is_compiled
def test_a_command_along_the_path(monkeypatch, tmp_path):
    places = [tmp_path / name for name in ("none", "plain", "good")]
    for place in places[1:]:
        place.mkdir()
        (place / "tool").write_text("#!/bin/sh\necho $0\n")
    (tmp_path / "file").touch()
    (places[2] / "tool").chmod(0o755)
    path = ":".join(map(str, [tmp_path / "file", *places]))
    assert both(monkeypatch, "tool", env={"PATH": path})[0] == f"{places[2]}/tool\n"
    assert both(monkeypatch, "tool", env={"PATH": str(places[1])}) == errno.EACCES
    assert both(monkeypatch, "tool", env={"PATH": str(places[0])}) == errno.ENOENT
    assert both(monkeypatch, f"{tmp_path}/file/tool") == errno.ENOTDIR
    assert both(monkeypatch, "./tool", cwd=str(places[2]))[0] == "./tool\n"
    assert both(monkeypatch, "tool", env={"PATH": ""}, cwd=str(places[2]))[0] == "tool\n"
    assert both(monkeypatch, "true", env={})[2] == 0
    assert both(monkeypatch, "tool", env={"PATH": "", "A=B": ""}) is ValueError
    assert both(monkeypatch, "to\0ol") is ValueError
    assert both(monkeypatch, "true", "x" * 3_000_000) == errno.E2BIG


@is_compiled
def test_one_that_is_not_confirmed_is_no_harm():
    with open(os.devnull) as nothing:
        for executable in ("true", "no-such-command"):
            main = begin([executable], executable, BASE, None, nothing.fileno())
            pid, descriptors = main.pid, (main.pidfd, *main.pipes)
            del main
            os.waitpid(pid, 0)
            close(descriptors)


@is_compiled
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_where_the_kernel_does_not_know_it_popen_does_it(monkeypatch, number):
    class Unknown:
        def begin(self, *arguments):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(main_process, "_clone", Unknown())
    with open(os.devnull) as nothing:
        assert done(begin(["true"], "true", BASE, None, nothing.fileno())) == ("", "", 0)


def test_a_process_without_standard_descriptors_can_start_some(tmp_path):
    """They are the next that the kernel gives, for pipes too."""
    program = (
        "import os, sys; os.chdir(sys.argv[1]); os.closerange(0, 3)\n"
        "from simple_worker.main_process import begin\n"
        "stdin = os.open('in', os.O_RDONLY | os.O_CLOEXEC)\n"
        "command = ['sh', '-c', 'cat; echo e >&2']\n"
        "main = begin(command, 'sh', {'PATH': os.defpath}, None, stdin); main.confirm()\n"
        "texts = [os.read(pipe, 100) + os.read(pipe, 100) for pipe in main.pipes]\n"
        "os._exit(0 if texts == [b'i', b'e\\n'] and main.reap()[0] == 0 else 1)\n"
    )
    (tmp_path / "in").write_text("i")
    env = {"PYTHONPATH": str(Path(main_process.__file__).parents[1])}
    argv = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(argv, env=env, timeout=PATIENCE).returncode == 0


async def test_many_begin_at_once_and_each_is_told_of_in_its_turn(machine):
    told = []
    commands = ["true", "no-such-command", "/", "false"] * 8
    for command in commands:
        machine.begin(Launch(Command(command)), told.append)
    assert not told
    machine.settle()
    assert [getattr(child, "status", 0) for child in told] == [0, 127, 126, 0] * 8
    outcomes = [
        (await child.run(None, 1000)).exit_code
        for child in told
        if not isinstance(child, SpawnFailure)
    ]
    assert outcomes == [0, 1] * 8


async def test_what_begins_as_others_are_told_of_is_told_of_too(machine):
    told = []

    def again(failure):
        told.append(failure.status)
        if len(told) < 3000:  # more than any stack has room for
            machine.begin(Launch(Command("/")), again)

    machine.begin(Launch(Command("/")), again)
    machine.settle()
    assert told == [126] * 3000


async def test_a_machine_without_room_says_so_as_one_begins(machine):
    told = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        assert not machine.begin(Launch(Command("true")), told.append)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert machine.begin(Launch(Command("no-such-command")), told.append)
    machine.settle()
    assert [failure.is_refusal for failure in told] == [True, False]
