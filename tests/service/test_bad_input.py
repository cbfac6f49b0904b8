"""What only a whole service can refuse. Usage errors and bad requests stand in `cli` and `http`."""

import sys

from tests.commands import PATIENCE, Service


def test_a_second_server_on_the_same_directory_is_refused(service: Service) -> None:
    first = service.start_server()
    second = service.start("second", sys.executable, "-m", "remote_runner")
    assert second.wait(PATIENCE) == 74
    words = (service.folder / "second.log").read_text()
    assert f"process id {first.pid}" in words
    assert "--data-dir" in words
    assert service.json("ps") == []  # the first one works on, and is still found
