"""Every benchmark starts, ends and prints its figures; how good they are is no test's matter."""

import shutil
import sys

import pytest

from benchmarks.__main__ import NAMES, RECORD
from tests.commands import PATIENCE, Service
from tests.postgres import find_binaries


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("cc") is None, reason="the limits are measured by a C program")
def test_a_quick_run_prints_a_row_for_each_and_records_nothing(service: Service) -> None:
    record = RECORD.read_bytes()
    bench = service.start("bench", sys.executable, "-m", "benchmarks", "--quick")
    assert bench.wait(3 * PATIENCE) == 0, service.logs()
    printed = service.logs()
    for name in NAMES if find_binaries() else [name for name in NAMES if name != "p7_servers"]:
        assert f"│ {name.partition('_')[0].upper()} " in printed
    assert RECORD.read_bytes() == record
    assert list(service.temporary.iterdir()) == []
