"""A server whose disk is full lives on, refuses what it cannot keep, and takes it when it can."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT

NAMESPACE = ("unshare", "--mount", "--propagation", "private")


def can_mount(folder: Path) -> bool:
    """Whether a small disk of its own can be had here."""
    try:
        mount = subprocess.run(
            [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return mount.returncode == 0


def test_a_server_lives_through_a_full_disk(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("needs unshare, and the right to mount a small disk")
    module = [sys.executable, "-m", "tests.service.small_disk"]
    done = subprocess.run(
        [*NAMESPACE, *module, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
