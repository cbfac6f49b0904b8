"""Pytest fixtures for programs that embed the runner, or talk to one. They need pytest-trio.

In a `conftest.py` at the root of the tests:

    pytest_plugins = ["queued_runner.testing.fixtures"]
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pytest_trio import trio_fixture  # type: ignore[import-untyped]

from queued_runner.testing.service import RunningService
from queued_runner.testing.virtual import VirtualService, open_virtual_service


@pytest.fixture
def running_service(tmp_path: Path) -> Iterator[RunningService]:
    """The real commands on free ports: a server, and a worker of two slots."""
    with RunningService(tmp_path / "duplex-runner") as service:
        service.start_server()
        service.start_worker()
        yield service


@trio_fixture  # type: ignore[untyped-decorator]
async def virtual_service(tmp_path: Path) -> AsyncIterator[VirtualService]:
    """A service in this test, whose workers the test plays. The test asks for `autojump_clock` too,
    which is pytest-trio's: only a test itself can choose its clock."""
    async with open_virtual_service(tmp_path / "duplex-runner") as service:
        yield service
