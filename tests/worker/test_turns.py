"""A worker has short turns on the CPU, its jobs have those of all others."""

import json
import platform
import subprocess
import sys

import pytest

from tests.commands import ROOT

LOOK = """
import ctypes, json, os, subprocess, sys
from simple_worker import turns
def look():
    read = turns._Attributes()
    call = turns._CALLS["{machine}"] + 1
    if ctypes.CDLL(None).syscall(call, 0, ctypes.byref(read), ctypes.sizeof(read), 0):
        raise OSError("sched_getattr")
    return [read.policy, read.nice, read.runtime]
found = [look()]
if sys.argv[1] != "job":
    os.nice(3)
    if sys.argv[1] == "batch":
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    turns.ask_for_short_turns()
    found.append(look())
    argv = [sys.executable, "-c", sys.orig_argv[-2], "job"]
    found += json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
print(json.dumps(found))
"""


def look(kind):
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64", "riscv64"):
        pytest.skip(f"nothing is known of {machine}")
    argv = [sys.executable, "-c", LOOK.replace("{machine}", machine), kind]
    return json.loads(subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def test_a_worker_has_short_turns_and_its_jobs_have_not():
    before, worker, job = look("worker")
    if before[2] == 0:
        pytest.skip("this kernel has turns of one length: it is older than 6.12")
    assert worker == [before[0], before[1] + 3, 100_000]
    assert job == [before[0], before[1] + 3, before[2]]


def test_a_policy_that_somebody_has_chosen_stays():
    before, worker, job = look("batch")
    assert worker[0] == job[0] == 3
    assert worker[2] == before[2]
