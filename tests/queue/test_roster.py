"""What a server writes down of its workers: the last word on each, and little of it at a time."""

from dataclasses import replace

import pytest
from outcome import Error, Value

from queued_runner.roster import MAX_WORDS, Roster
from queued_runner.sightings import worker_info, worker_record
from queued_runner.store.base import PlacedAttempt, StoreBroken
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.types import WorkerEvent, WorkerInfo


def info(worker_id, state="ready", **more):
    return WorkerInfo(worker_id, f"name-{worker_id}", state, 3, 3, {"k": "v"}, "1", "here", **more)


class Commits:
    """Commits when the test says so."""

    def __init__(self):
        self.store = SQLiteStore(":memory:")
        self.store.enlist("s", "S", 0.0)
        self.waiting = []

    def submit(self, operation, done):
        self.waiting.append((operation, done))

    def commit(self):
        """All that waits, and what comes of it."""
        while self.waiting:
            operation, done = self.waiting.pop(0)
            done(Value(operation(self.store)))

    def known(self):
        self.commit()
        return {each.worker_id: worker_info(each, "S", ()) for each in self.store.workers()}


@pytest.fixture
def commits():
    return Commits()


@pytest.fixture
def roster(commits):
    return Roster(commits)


def join(commits, roster, worker, connection=1):
    """As a dispatcher does with one that says what it holds."""
    record = worker_record(worker, "boot", connection)
    last_word = roster.begin(worker.id)
    assert commits.store.take_over(record, []) is not None
    roster.expect(record)
    return last_word


def test_what_is_known_of_a_worker_is_as_it_is_now(commits, roster):
    join(commits, roster, info("w", "greeting"))
    roster.see(WorkerEvent.JOINED, info("w"))
    assert not commits.waiting  # the store knows it already
    assert commits.known() == {"w": info("w", server="S", taken=0)}
    roster.see(WorkerEvent.DRAINED, info("w", "drained"))
    assert commits.known()["w"].state == "drained"
    roster.see(WorkerEvent.RESUMED, info("w"))
    assert commits.known()["w"].state == "ready"
    roster.see(WorkerEvent.LEAVING, info("w", "draining", is_leaving=True))
    assert commits.known()["w"].is_leaving
    roster.see(WorkerEvent.LEFT, info("w"))
    assert commits.known() == {}


def test_workers_that_come_and_go_pile_up_nothing(commits, roster):
    for _ in range(1000):
        for worker_id in ("a", "b", "c"):
            roster.see(WorkerEvent.JOINED, info(worker_id))
            if worker_id != "c":
                roster.see(WorkerEvent.LEFT, info(worker_id))
            roster.see(WorkerEvent.DRAINED, info("c", "drained"))
    assert len(commits.waiting) == 1
    assert {key: each.state for key, each in commits.known().items()} == {"c": "drained"}


def test_no_operation_writes_of_more_than_so_many(commits, roster):
    for number in range(3 * MAX_WORDS):
        roster.see(WorkerEvent.JOINED, info(f"{number}"))
    assert len(commits.known()) == 3 * MAX_WORDS
    roster.write_all()
    operation, done = commits.waiting.pop()
    commits.store.bury("s", 0.0, 0.0)
    commits.store.enlist("s-2", "S", 0.0)
    done(Value(operation(commits.store)))
    assert len(commits.store.workers()) == MAX_WORDS
    assert len(commits.known()) == 3 * MAX_WORDS


def test_the_end_of_a_connection_does_not_hide_the_next_one(commits, roster):
    """Of a worker that does not count its connections, so that the store cannot tell them apart."""
    join(commits, roster, info("w"), 0)
    roster.see(WorkerEvent.JOINED, info("w"))
    roster.see(WorkerEvent.JOINED, info("other"))  # is being written
    roster.see(WorkerEvent.LEFT, info("w"))
    join(commits, roster, info("w"), 0)
    roster.see(WorkerEvent.JOINED, info("w"))
    assert commits.known().keys() == {"w", "other"}


def test_the_end_of_a_connection_is_known_if_the_next_one_is_refused(commits, roster):
    join(commits, roster, info("w"))
    roster.see(WorkerEvent.JOINED, info("w"))
    roster.see(WorkerEvent.JOINED, info("other"))
    roster.see(WorkerEvent.LEFT, info("w"))
    roster.fail(roster.begin("w"))
    assert commits.known().keys() == {"other"}


def test_one_that_ends_before_it_has_joined_is_forgotten_soon(commits, roster):
    join(commits, roster, info("gone"))
    join(commits, roster, info("here"))
    roster.see(WorkerEvent.JOINED, info("here"))
    roster.look_again()
    assert commits.known().keys() == {"gone", "here"}  # it may be about to join
    roster.look_again()
    assert commits.known().keys() == {"here"}
    roster.look_again()
    roster.see(WorkerEvent.LEFT, info("gone"))
    assert commits.known().keys() == {"here"}


def test_a_drain_ends_with_the_id_that_nobody_has_again(commits, roster):
    for worker_id, is_baseline in (("once", True), ("again", False)):
        worker = info(worker_id, is_baseline=is_baseline)
        roster.see(WorkerEvent.JOINED, worker)
        commits.store.drain_worker(worker_id, "n", 0.0)
        roster.see(WorkerEvent.LEFT, worker)
    assert commits.known() == {}
    assert list(commits.store.drained_workers()) == ["again"]


def test_nothing_more_is_written_into_a_store_that_is_broken(commits, roster):
    roster.see(WorkerEvent.JOINED, info("a"))
    roster.see(WorkerEvent.JOINED, info("b"))
    (_, done), commits.waiting = commits.waiting[0], []
    done(Error(StoreBroken("the disk")))
    assert not commits.waiting


def test_what_a_later_release_has_written_down_is_passed_over():
    record = worker_record(info("w"))
    later = replace(record, facts='{"new": 1, ' + record.facts[1:])
    running = [PlacedAttempt("w", "w", "s", (7, 2), 1), PlacedAttempt("w", "w", "s", (3, 1), 2)]
    shown = worker_info(later, "S", running)
    assert shown == replace(info("w"), server="S", free=0, running=("3.1", "7.2"), taken=3)
