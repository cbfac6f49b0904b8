"""`python -m tests.pressure --seconds 60`: the figures, and exit status 1 if one is missed."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.pressure import measure

parser = argparse.ArgumentParser(prog="python -m tests.pressure")
parser.add_argument("--seconds", type=float, default=60, help="how long the job prints")
parser.add_argument("--folder", help="where the output is stored, some GiB a minute")
options = parser.parse_args()

with tempfile.TemporaryDirectory(prefix="pressure-", dir=options.folder) as folder:
    figures = measure(Path(folder), options.seconds)
for figure in figures:
    print(figure)
sys.exit(not all(figure.is_kept for figure in figures))
