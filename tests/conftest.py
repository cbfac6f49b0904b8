"""How all tests run, and the fixtures of those that need the real commands."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.commands import Service

if TYPE_CHECKING:
    from tests.postgres import Postgres

pytest_plugins = ["queued_runner.testing.fixtures"]

THOROUGH = ("torture", "sim", "test_benchmarks.py", "examples", "service", "torment", "crash")
"""What takes long here, the longest first: a run that is spread over CPUs begins with it."""

# A machine that is busy with other tests is slow, and no test is wrong for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For a look at everything, as the demo is: HYPOTHESIS_PROFILE=quick.
settings.register_profile("quick", settings.get_profile("patient"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "patient"))


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """One PostgreSQL for all tests; each takes a database of its own in it."""
    from tests.postgres import Postgres, binaries_or_skip  # most files need no driver

    cluster = Postgres(binaries_or_skip())
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The means to start a server, workers and clients; nothing is started yet."""
    with Service(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with one worker of four slots, shared by the tests of a file."""
    with Service(tmp_path_factory.mktemp("service")) as service:
        service.start_server()
        service.start_worker(slots=4)
        yield service


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is thorough, and put it first."""
    ranks = {name: rank for rank, name in enumerate(THOROUGH)}
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        return ranks.get(item.path.relative_to(here).parts[0], len(ranks))

    items.sort(key=rank)
    for item in items:
        if rank(item) < len(ranks):
            item.add_marker("thorough")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests each engine of the store has passed, the same ones for all of them."""
    counts = Counter(
        engine
        for report in terminalreporter.getreports("passed")
        for engine in ("sqlite-memory", "sqlite-file", "postgres")
        if report.nodeid.startswith("tests/store/") and re.search(rf"\[{engine}[]-]", report.nodeid)
    )
    if counts:
        told = ", ".join(f"{engine} {count}" for engine, count in sorted(counts.items()))
        terminalreporter.write_line(f"conformance of the engines: {told} passed")
