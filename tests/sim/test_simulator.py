"""The simulator over some hundred seeds, and a look at whether it would find anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queued_runner.logs import AttemptLog
from tests.sim.__main__ import differing
from tests.sim.mutants.registry import MUTANTS
from tests.sim.mutants.search import find

QUICK = (
    "output is acknowledged before it is synced",
    "an attempt is started before its claim is committed",
    "an end is not told again after a reconnection",
    "an end is confirmed before its commit",
    "a refusal spends a retry",
    "a key is not kept with its job",
    "a failure lets those go that wait for it",
)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("options", [("--seeds", "0:500"), ("--seeds", "0:200", "--servers", "2")])
def test_no_seed_violates_anything(options):
    command = [sys.executable, "-m", "tests.sim", *options]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_has_one_history_in_every_process():
    assert differing(range(8)) == []


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name):
    found = find(name, range(60))
    assert found.is_found, found


def test_a_patch_that_does_not_fit_the_product_finds_nothing(monkeypatch):
    def stale(put):
        put(AttemptLog, "append", lambda self: None)

    monkeypatch.setitem(MUTANTS, "stale", stale)
    found = find("stale", range(60))
    assert found.is_stale
    assert not found.is_found
