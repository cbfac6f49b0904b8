"""A few cycles of every kind, with a chance that is the same each time: nothing may be violated.

More of it, and other chances: `python -m tests.torture`.
"""

import subprocess
import sys

import pytest

from tests.commands import ROOT
from tests.postgres import binaries_or_skip
from tests.torture.disk import can_mount
from tests.torture.runs import KINDS, torture

pytestmark = pytest.mark.timeout(240)  # much more than it takes: it waits for what was torn apart


@pytest.mark.parametrize(
    ("kind", "seed", "given"),
    [
        ("server", "2", {"jobs": 8}),
        ("worker", "1", {"jobs": 8}),
        ("network", "3", {"jobs": 8}),
        ("nasty", "1", {"jobs": 32}),
    ],
)
def test_nothing_is_lost_doubled_or_left(kind, seed, given, tmp_path):
    scale = KINDS[kind].scale._replace(**given)
    _, violations = torture(kind, tmp_path, seed, scale)
    assert violations == [], (tmp_path / "history").read_text()


@pytest.mark.parametrize(
    ("kind", "seed", "given"),
    [("servers", "1", {"jobs": 8}), ("database", "1", {"jobs": 8, "seconds": 3.0})],
)
def test_nothing_is_lost_doubled_or_left_with_several_servers(kind, seed, given, tmp_path):
    binaries_or_skip()
    scale = KINDS[kind].scale._replace(**given)
    _, violations = torture(kind, tmp_path, seed, scale)
    assert violations == [], (tmp_path / "history").read_text()


@pytest.mark.skipif(not can_mount(), reason="this user may not mount a small disk")
def test_nothing_is_lost_when_the_disk_of_the_server_is_full():
    command = [sys.executable, "-m", "tests.torture", "disk", "--jobs", "8", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
