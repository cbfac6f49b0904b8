"""Who follows a job with `run` sees every byte once, however often the server is killed."""

import pytest

from tests.torture.campaign import Scale
from tests.torture.runs import torture


@pytest.mark.timeout(240)  # much more than it takes: each restart takes what the machine needs
def test_run_is_byte_exact_while_the_server_is_killed_and_restarted(tmp_path):
    scale = Scale(cycles=2, jobs=1, seconds=4)  # longer: python -m tests.torture follow
    _, violations = torture("follow", tmp_path, "1", scale)
    assert violations == [], (tmp_path / "history").read_text()
