"""Two servers on one queue in PostgreSQL: whatever they do at once is as if one came first."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from queued_runner.jobs import JobSpec, JobState
from queued_runner.lifecycle import JobEvent
from queued_runner.store import dependencies
from queued_runner.store.base import BadDependency, KeyConflict, StoreError, TryAgain
from queued_runner.store.postgres import PostgresStore
from tests.store.conftest import FAILURE, Transacted, given

PATIENCE = 30.0
QUEUED, FAILED, SUCCEEDED = JobState.QUEUED, JobState.FAILED, JobState.SUCCEEDED


class Server(Transacted):
    """A store with a thread of its own, and each verb again that others were in the way of."""

    def __init__(self, address):
        super().__init__(PostgresStore(address))
        self._thread = ThreadPoolExecutor(1)
        self._watch = psycopg.connect(address, autocommit=True)
        self._pid = self.raw._db.execute("SELECT pg_backend_pid()").fetchone()[0]
        self.again = 0

    def __call__(self, operation):
        while True:
            try:
                return super().__call__(operation)
            except TryAgain:
                self.again += 1

    def add_in(self, *specs):
        """In the transaction that is open; the database has them by then."""
        ids = self.raw.add(specs, self.now).ids
        self.raw.counts()  # whoever looks waits for all that was sent ahead
        return ids

    def meanwhile(self, function, *args, **kwargs):
        return self._thread.submit(function, *args, **kwargs)

    def wait_until_it_waits(self):
        """For a lock of another."""
        deadline = time.monotonic() + PATIENCE
        while self._watch.execute(
            "SELECT cardinality(pg_blocking_pids(%s))", (self._pid,)
        ).fetchone() == (0,):
            assert time.monotonic() < deadline, "it did not wait"

    def close(self):
        self._thread.shutdown()
        self._watch.close()
        self.raw.close()


@pytest.fixture
def a(address):
    server = Server(address)
    yield server
    server.close()


@pytest.fixture
def b(address):
    server = Server(address)
    yield server
    server.close()


def after_it_waits(first, second, verb, *args, **kwargs):
    """What `verb` of `second` gives, who waits until `first` has committed."""
    result = second.meanwhile(verb, *args, **kwargs)
    second.wait_until_it_waits()
    first.raw.commit()
    return result.result(PATIENCE)


# --- claims ---


def test_two_who_claim_at_once_never_get_the_same_job_and_both_get_work(a, b):
    ids = [a.submit() for _ in range(10)]
    a.raw.begin()
    first = a.raw.claim(given(({}, 4)), 1.0, 100)
    second = b.claim(({}, 4))  # while the first is not committed
    a.raw.commit()
    assert [job.id for job in first + second] == ids[:8]
    assert [job.id for job in a.raw.running()] == ids[:8]
    assert {job.worker for job in first + second} == {"w0"}


def test_a_claim_holds_nothing_that_it_does_not_take(a, b):
    plain, special = a.submit(), a.submit(needs={"n": "1"})
    a.raw.begin()
    (first,) = a.raw.claim(given(({"n": "1"}, 1)), 1.0, 100)
    (second,) = b.claim(({"n": "1"}, 1))
    a.raw.commit()
    assert (first.id, second.id) == (plain, special)


def test_what_another_took_gives_its_slot_to_the_next(a, b):
    ids = [a.submit(priority=-n) for n in range(6)]
    special = a.submit(needs={"n": "1"}, priority=-9)
    a.raw.begin()
    a.raw.claim(given(({}, 3)), 1.0, 100)
    got = b.claim(({}, 2), ({"n": "1"}, 2))
    a.raw.rollback()
    assert [job.id for job in got] == [*ids[3:6], special]
    assert sorted(job.worker for job in got) == ["w0", "w0", "w1", "w1"]
    assert [job.id for job in a.claim()] == ids[:3]


def test_many_jobs_are_run_once_each(a, b):
    ids = a.add(*[JobSpec(command="x", needs={"n": str(n % 3)}) for n in range(600)])

    def drain(server):
        claimed = []
        while jobs := server.claim(({"n": "0"}, 7), ({"n": "1"}, 7), ({"n": "2"}, 7)):
            claimed += jobs
            for job in jobs:
                server.finish(job)
        return [job.id for job in claimed]

    mine, theirs = a.meanwhile(drain, a), b.meanwhile(drain, b)
    found = mine.result(PATIENCE), theirs.result(PATIENCE)
    assert sorted(found[0] + found[1]) == ids
    assert all(found)
    assert a.raw.counts() == {SUCCEEDED: 600}


def test_delayed_jobs_that_are_due_are_made_ready_by_either(a, b):
    ids = [a.submit(delay=1) for _ in range(4)]
    a.now = b.now = a.now + 2
    a.raw.begin()
    first = a.raw.claim(given(({}, 2)), a.now, 100)
    assert b.claim() == []  # it does not wait for the other, who has all of them in hand
    a.raw.commit()
    assert [job.id for job in first + b.claim()] == ids


# --- keys ---


def test_two_who_add_the_same_key_get_one_job(a, b):
    a.raw.begin()
    (first,) = a.add_in(JobSpec(command="x", key="k"))
    assert after_it_waits(a, b, b.submit, command="x", key="k") == first
    assert b.again == 1
    assert [job.id for job in a.raw.page()] == [first]


def test_a_key_of_somebody_else_is_refused_as_late_as_that(a, b):
    a.raw.begin()
    a.add_in(JobSpec(command="x", key="k"))
    with pytest.raises(KeyConflict):
        after_it_waits(a, b, b.submit, command="y", key="k")


def test_a_key_is_free_again_when_the_other_gave_up(a, b):
    a.raw.begin()
    a.add_in(JobSpec(command="x", key="k"))
    result = b.meanwhile(b.submit, command="y", key="k")
    b.wait_until_it_waits()
    a.raw.rollback()
    assert a.raw.get(result.result(PATIENCE)).spec.command == "y"


# --- ends ---


def test_a_cancel_that_waits_for_the_end_finds_it(a, b):
    job = a.start()
    a.raw.begin()
    ended = a.finish_in(job)
    assert after_it_waits(a, b, b.cancel, job.id) == ended
    assert not a.raw.get(job.id).cancel_requested


def test_an_end_that_waits_for_a_cancel_knows_of_it(a, b):
    job = a.start()
    a.raw.begin()
    a.raw.cancel(job.id, 1.0)
    assert after_it_waits(a, b, b.finish, job).cancel_requested


def test_a_cancel_of_a_queued_job_and_its_claim(a, b):
    job_id = a.submit()
    a.raw.begin()
    a.raw.cancel(job_id, 1.0)
    assert b.claim() == []
    a.raw.commit()
    other = a.submit()
    a.raw.begin()
    a.raw.claim(given(({}, 1)), 1.0, 1)
    assert after_it_waits(a, b, b.cancel, other).state is JobState.RUNNING


def test_an_end_counts_once(a, b):
    job = a.start()
    a.raw.begin()
    assert a.finish_in(job) is not None
    assert after_it_waits(a, b, b.finish, job, JobEvent.FAIL, FAILURE) is None
    assert a.raw.get(job.id).state is SUCCEEDED


def test_what_is_said_of_an_end_does_not_overwrite_it(a, b):
    job = a.start()
    a.raw.begin()
    a.finish_in(job)
    report = b.meanwhile(b, lambda raw: raw.report(job.id, 1, FAILURE))
    b.wait_until_it_waits()
    a.raw.commit()
    assert not report.result(PATIENCE)
    assert a.raw.attempts(job.id)[0].exit_code == 0


def test_two_who_revive_a_job_make_one_of_it(a, b):
    job_id = a.submit()
    a.cancel(job_id)
    a.raw.begin()
    a.raw.revive(job_id, 1.0)
    with pytest.raises(StoreError, match="is queued and has not ended"):
        after_it_waits(a, b, b.revive, job_id)


# --- jobs that come after others ---


@pytest.mark.parametrize("event", [JobEvent.SUCCEED, JobEvent.FAIL])
def test_a_job_that_is_added_while_what_it_comes_after_ends(a, b, event):
    job = a.start(key="k")
    a.raw.begin()
    a.finish_in(job, event)
    other = after_it_waits(a, b, b.submit, after=("k",))
    found = a.raw.get(other)
    assert (found.state, found.waits_for) == (
        (QUEUED, 0) if event is JobEvent.SUCCEED else (FAILED, 0)
    )
    assert a.settle() == b.settle()  # there is nothing to tell


@pytest.mark.parametrize("event", [JobEvent.SUCCEED, JobEvent.FAIL])
def test_a_job_that_ends_while_another_is_added_after_it(a, b, event):
    job = a.start()
    a.raw.begin()
    (other,) = a.add_in(JobSpec(command="x", after=(job.id,)))
    after_it_waits(a, b, b.finish, job, event)
    settled = b.settle()
    assert settled.failed + settled.released == (other,)


@pytest.mark.parametrize("reference", ["id", "key"])
def test_a_job_cannot_come_after_one_that_is_being_deleted(a, b, reference):
    job_id = a.submit(key="k")
    a.run(job_id)
    a.raw.begin()
    assert a.raw.delete([job_id]) == [job_id]
    with pytest.raises(BadDependency):
        after_it_waits(a, b, b.submit, after=("k" if reference == "key" else job_id,))


def test_one_that_failed_is_not_deleted_while_another_is_added_after_it(a, b):
    job_id = a.submit()
    a.run(job_id, event=JobEvent.FAIL)
    a.raw.begin()
    (other,) = a.add_in(JobSpec(command="x", after=(job_id,)))
    assert after_it_waits(a, b, b.delete, job_id) == []
    assert a.raw.dependant_of(job_id) == other


def test_what_one_tells_the_other_does_not_tell_again(a, b, monkeypatch):
    monkeypatch.setattr(dependencies, "BUDGET", 3)
    ends = [a.submit(), a.submit()]
    waiting = [a.submit(after=ends[:1]), a.submit(after=ends[1:])]
    for job in a.claim():
        a.finish(job)
    a.raw.begin()
    first = a.raw.settle(1.0)
    second = b.settle()
    a.raw.commit()
    assert first.released + second.released == (*waiting,)


def test_a_deadlock_undoes_one_of_two_which_may_be_run_again(a, b):
    one, two = a.submit(), a.submit()
    a.raw.begin()
    a.raw.cancel(one, 1.0)

    def the_other_way_round(raw):
        raw.cancel(two, 1.0)
        return raw.cancel(one, 1.0)

    # Once, and not again at once: that may be in time to deadlock anew, and undo the other too.
    result = b.meanwhile(Transacted.__call__, b, the_other_way_round)
    b.wait_until_it_waits()
    undone = []
    try:
        a.raw.cancel(two, 1.0)
        a.raw.commit()
    except TryAgain:
        a.raw.rollback()
        undone.append(a)
    try:
        result.result(PATIENCE)
    except TryAgain:
        undone.append(b)
    (server,) = undone
    assert server(the_other_way_round).state is JobState.CANCELLED
    assert a.raw.counts() == {JobState.CANCELLED: 2}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_two_do_at_once_none_waits_for_ever(a, b, monkeypatch, seed):
    monkeypatch.setattr(dependencies, "BUDGET", 3)
    seen = []

    def live(server, rng):
        running = []

        def add():
            known = rng.sample(seen, min(len(seen), rng.randint(0, 3)))
            seen.extend(server.add(JobSpec(command="x", after=known), JobSpec(command="y")))

        def claim():
            for job in server.claim(({}, 3), limit=2):
                seen_before = {job_id for job_id, state, is_open in server.raw.dependencies(job.id)
                               if is_open and state is not SUCCEEDED}  # fmt: skip
                assert not seen_before
                running.append(job)

        def finish():
            if running:
                job = running.pop(rng.randrange(len(running)))
                event = rng.choice((JobEvent.SUCCEED, JobEvent.FAIL, JobEvent.RETRY))
                server.finish(job, event, FAILURE, run_after=server.now)

        def on_any(verb):
            if seen:
                verb(rng.choice(seen))

        acts = (add, claim, claim, finish, finish, lambda: on_any(server.cancel),
                lambda: on_any(server.revive), lambda: on_any(server.delete),
                lambda: server(lambda raw: raw.settle(server.now)))  # fmt: skip
        for _ in range(150):
            try:
                rng.choice(acts)()
            except StoreError:  # refused: what it was about has gone, or is not so
                pass
        return running

    lives = [server.meanwhile(live, server, random.Random(f"{seed} {name}"))
             for name, server in (("a", a), ("b", b))]  # fmt: skip
    running = [job for life in lives for job in life.result(PATIENCE)]
    a.settle()
    for job in a.raw.page(limit=10_000):
        still = [state for _, state, is_open in a.raw.dependencies(job.id) if is_open]
        if job.state is QUEUED:
            assert job.waits_for == len(still)
            assert not any(state.is_terminal for state in still)
    while running or (running := a.claim()):
        a.finish(running.pop())
        a.settle()
    assert not {QUEUED, JobState.RUNNING} & set(a.raw.counts())
