"""Every benchmark starts, ends and prints its figures; how good they are is no test's matter."""

import shutil
import sys

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.publish import CURVES, DOCUMENT, RECORD
from tests.commands import PATIENCE, Service


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("cc") is None, reason="the limits are measured by a C program")
def test_a_quick_run_prints_a_row_for_each_and_records_nothing(service: Service) -> None:
    written = [path.read_bytes() for path in (RECORD, CURVES, DOCUMENT)]
    names = [name.partition("_")[0] for name in NAMES]
    bench = service.start(
        "bench", sys.executable, "-m", "benchmarks", "--quick", *names, "curves"
    )
    assert bench.wait(3 * PATIENCE) == 0, service.logs()
    printed = service.logs()
    for title in [f"{name.upper()} " for name in names]:
        assert f"│ {title}" in printed
    assert [path.read_bytes() for path in (RECORD, CURVES, DOCUMENT)] == written
    assert list(service.temporary.iterdir()) == []
