"""A few cycles of every kind, with a chance that is the same each time: nothing may be violated."""

import pytest

from tests.torture.runs import torture


@pytest.mark.parametrize("kind", ["server", "worker", "network"])
def test_nothing_is_lost_doubled_or_left(kind, tmp_path):
    _, violations = torture(kind, tmp_path, seed="1", cycles=5, jobs=8)
    assert violations == [], (tmp_path / "history").read_text()
