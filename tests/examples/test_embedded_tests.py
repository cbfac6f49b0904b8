"""The example of tests with a fake worker passes where somebody else would run it."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.commands import PATIENCE, ROOT


def test_it_passes(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "examples" / "embedded_tests", tmp_path / "tests")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", folder],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
