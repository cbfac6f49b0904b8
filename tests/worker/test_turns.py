"""A worker has short turns on the CPU, its jobs have those of all others."""

import json
import os
import subprocess
import sys

import pytest

from tests.commands import ROOT

GET_ATTRIBUTES = {"x86_64": 315, "aarch64": 275, "riscv64": 275}
"""The number of `sched_getattr(2)`."""
LOOK = """
import ctypes, json, os, struct, subprocess, sys
from simple_worker.turns import ask_for_short_turns
def look():
    read = ctypes.create_string_buffer(48)
    if ctypes.CDLL(None).syscall(CALL, 0, read, 48, 0):
        raise OSError("sched_getattr")
    _, policy, _, nice, _, runtime, _, _ = struct.unpack("IIQiIQQQ", read.raw)
    return [policy, nice, runtime]
found = [look()]
if sys.argv[1] != "job":
    os.nice(3)
    if sys.argv[1] == "batch":
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    ask_for_short_turns()
    found.append(look())
    argv = [sys.executable, "-c", sys.orig_argv[-2], "job"]
    found += json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
print(json.dumps(found))
"""


def look(kind):
    call = GET_ATTRIBUTES.get(os.uname().machine)
    if call is None:
        pytest.skip(f"nothing is known of {os.uname().machine}")
    argv = [sys.executable, "-c", LOOK.replace("CALL", str(call)), kind]
    return json.loads(subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def test_a_worker_has_short_turns_and_its_jobs_have_not():
    before, worker, job = look("worker")
    if before[2] == 0:
        pytest.skip("this kernel has turns of one length: it is older than 6.12")
    assert worker == [before[0], before[1] + 3, 400_000]
    assert job == [before[0], before[1] + 3, before[2]]


def test_a_policy_that_somebody_has_chosen_stays():
    before, worker, job = look("batch")
    assert worker[0] == job[0] == 3
    assert worker[2] == before[2]
