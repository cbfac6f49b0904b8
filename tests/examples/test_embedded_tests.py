"""The example of tests with a fake worker, and that of docs/embedding.md, pass where somebody else
would run them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.commands import PATIENCE, ROOT


def _run(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", folder],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, cwd=folder,
        capture_output=True, text=True, check=False, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_passes(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "examples" / "embedded_tests", tmp_path / "tests")
    assert "3 passed" in _run(folder)


def test_the_documented_files_pass_as_they_stand(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "embedding.md").read_text()
    blocks = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", document, re.DOTALL))
    assert sorted(blocks) == ["conftest.py", "pyproject.toml", "test_report.py"]
    for name, text in blocks.items():
        (tmp_path / name).write_text(text)
    assert "1 passed" in _run(tmp_path)
