"""A crash at any sync or write of the server loses nothing that it has acknowledged."""

import pytest

from tests.crash.script import crash_once
from tests.simdisk import SimDisk

STEP = 7
"""Every so many operations crash here; `python -m tests.crash_sweep` crashes at each of them."""


def crashes(kind, step, **options):
    """What follows the crash at every `step`-th operation, until the script has fewer of them."""
    number = 1
    while True:
        report = crash_once(SimDisk(number, keeps=number % 2 / 2), (kind, number), **options)
        if (report.syncs if kind == "sync" else report.writes) < number:
            return
        yield number, report.violations
        number += step


def test_the_script_ends_as_it_should_without_a_crash():
    report = crash_once(SimDisk())
    assert report.violations == []
    assert report.syncs > 50
    assert report.writes > 200


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_a_crash_loses_nothing_that_was_acknowledged(kind):
    found = {at: violations for at, violations in crashes(kind, STEP) if violations}
    assert found == {}


def test_it_would_show_a_database_that_does_not_wait_for_the_disk():
    found = [str(violations) for _, violations in crashes("sync", 5, synchronous="NORMAL")]
    assert any("its submit was answered, and it is gone" in each for each in found)


def test_it_would_show_output_whose_file_has_no_name_yet(monkeypatch):
    monkeypatch.setattr("queued_runner.log_files._sync_folders", lambda folder: None)
    found = [str(violations) for _, violations in crashes("sync", 5)]
    assert any("was run 2 times" in each for each in found)  # its worker had forgotten that output
