"""The engines that the contract is tried on, and how a test works with one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queued_runner.jobs import Job, JobSpec
from queued_runner.lifecycle import JobEvent
from queued_runner.retry import Decision
from queued_runner.store.base import Settled, Store, StoredOutput, Stranded
from queued_runner.store.postgres import PostgresStore
from queued_runner.store.sqlite import MEMORY, SQLiteStore
from remote_runner.types import Offer, Outcome, Reason, Slot
from tests.postgres import Postgres

Engine = Callable[[Path], Store]
SQLITE: dict[str, Engine] = {
    "sqlite-memory": lambda _: SQLiteStore(MEMORY),
    "sqlite-file": lambda folder: SQLiteStore(folder / "queue.db"),
}
POSTGRES = "postgres"


SUCCESS = Outcome(Reason.EXIT, exit_code=0, duration=0.5, max_rss=4096, cpu_time=0.25)
FAILURE = Outcome(Reason.EXIT, exit_code=3)
NO_OUTPUT = StoredOutput(0, 0, None)


def given(*offers: tuple[dict[str, str], int]) -> list[Offer]:
    """Labels, and how many slots one worker with them has: the first is `w0`…"""
    return [
        Offer(labels, (Slot(f"w{number}", f"id-{number}", f"boot-{number}"),) * free)
        for number, (labels, free) in enumerate(offers)
    ]


class Transacted:
    """A store each of whose verbs is its own transaction; the clock is `now`."""

    def __init__(self, store: Store) -> None:
        self.raw = store
        self.now = 1000.0

    def __call__(self, operation: Callable[[Store], Any]) -> Any:
        self.raw.begin()
        try:
            result = operation(self.raw)
            self.raw.commit()
        except BaseException:
            self.raw.rollback()
            raise
        return result

    def add(self, *specs: JobSpec) -> list[int]:
        return self(lambda store: store.add(specs, self.now)).ids

    def submit(self, **fields: Any) -> int:
        return self.add(JobSpec(**{"command": "true", **fields}))[0]

    def claim(self, *offers: tuple[dict[str, str], int], limit: int = 1000) -> list[Job]:
        """`offers`: see `given`."""
        places = given(*(offers or [({}, 100)]))
        return self(lambda store: store.claim(places, self.now, limit))

    def start(self, **fields: Any) -> Job:
        """A job that runs."""
        job_id = self.submit(**fields)
        (job,) = [job for job in self.claim((fields.get("needs", {}), 100)) if job.id == job_id]
        return job

    def finish(
        self,
        job: Job,
        event: JobEvent = JobEvent.SUCCEED,
        outcome: Outcome = SUCCESS,
        output: StoredOutput = NO_OUTPUT,
        **decision: Any,
    ) -> Job | None:
        return self(lambda _: self.finish_in(job, event, outcome, output, **decision))

    def finish_in(
        self,
        job: Job,
        event: JobEvent = JobEvent.SUCCEED,
        outcome: Outcome = SUCCESS,
        output: StoredOutput = NO_OUTPUT,
        **decision: Any,
    ) -> Job | None:
        """In the transaction that is open."""
        decided = Decision(event, **decision)
        return self.raw.finish(
            job.id, job.attempt, lambda _: decided, outcome, output, self.now, job.handovers
        )

    def cancel(self, job_id: int) -> Job:
        return self(lambda store: store.cancel(job_id, self.now))

    def settle(self) -> Settled:
        """Until there is nothing to settle: all that it moved."""
        stranded: list[Stranded] = []
        released: list[int] = []
        while True:
            settled: Settled = self(lambda store: store.settle(self.now))
            stranded += settled.stranded
            released += settled.released
            if settled.is_all:
                return Settled(tuple(stranded), tuple(released))

    def run(self, *job_ids: int, event: JobEvent = JobEvent.SUCCEED) -> None:
        """Let these jobs run and end, one after the other, and tell those that wait for them."""
        for job_id in job_ids:
            (job,) = self.claim(limit=1)
            assert job.id == job_id
            self.finish(job, event, SUCCESS if event is JobEvent.SUCCEED else FAILURE)
            self.settle()

    def revive(self, job_id: int) -> Job:
        return self(lambda store: store.revive(job_id, self.now))

    def delete(self, *job_ids: int) -> list[int]:
        return self(lambda store: store.delete(job_ids))


@pytest.fixture
def address(postgres: Postgres) -> Iterator[str]:
    """Of a queue of the test's own in PostgreSQL."""
    yield postgres.new_queue()
    postgres.drop_queues()


@pytest.fixture(params=[*SQLITE, POSTGRES])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Opens the queue of a test, which is empty at first."""
    if request.param != POSTGRES:
        return SQLITE[request.param]
    address = request.getfixturevalue("address")
    return lambda _: PostgresStore(address)


@pytest.fixture
def store(engine: Engine, tmp_path: Path) -> Iterator[Transacted]:
    opened = engine(tmp_path)
    try:
        yield Transacted(opened)
    finally:
        opened.close()
