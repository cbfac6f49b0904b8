"""Deleting jobs: only what has ended, with all that hangs on it; who may have files is known."""

import pytest

from queued_runner.jobs import JobSpec, JobState
from queued_runner.lifecycle import JobEvent
from queued_runner.store.base import JobNotFound, StoredOutput
from tests.store.conftest import FAILURE


def expired(store, limit=100, looked_to=0, **limits):
    """Those that ended before the times given by state."""
    before = {JobState(name): time for name, time in limits.items()}
    return store.raw.expired(before, looked_to, limit)


def test_only_what_has_ended_is_deleted(store):
    running, queued, done = store.start().id, store.submit(delay=9), store.submit(priority=5)
    store.run(done)
    assert store.delete(running, queued, done, 99) == [done]
    with pytest.raises(JobNotFound):
        store.raw.get(done)
    assert {job.id for job in store.raw.page()} == {running, queued}


def test_attempts_and_output_go_and_the_id_is_never_used_again(store):
    job = store.start(key="k", group="g")
    store.finish(job, output=StoredOutput(3, 0, b"records"))
    assert store.delete(job.id) == [job.id]
    assert store.raw.attempts(job.id) == []
    assert store.raw.stored_output(job.id, 1) is None
    assert store.raw.counts("g") == {}
    assert store.submit(key="k", command="another") > job.id


def test_the_deleted_are_known_until_their_files_are_gone_too(store):
    ids = [store.submit() for _ in range(5)]
    store.run(*ids)
    store.delete(*ids[:4])
    assert store.raw.deleted(3) == ids[:3]
    store(lambda raw: raw.forget_deleted(ids[:3]))
    assert store.raw.deleted(9) == ids[3:4]


def test_a_dependency_that_was_deleted_is_not_waited_for(store):
    a = store.submit(key="a")
    (b,) = store.add(JobSpec(command="x", after=("a",)))
    store.run(a)
    store.run(b, event=JobEvent.FAIL)
    assert store.delete(a) == [a]
    assert (store.revive(b).waits_for, store.raw.get(b).after) == (0, (a,))
    store.run(b)


def test_one_that_failed_stays_as_long_as_those_that_failed_because_of_it(store):
    a = store.submit()
    b = store.submit(after=[a])
    c = store.submit(after=[b])
    store.run(a, event=JobEvent.FAIL)
    assert store.raw.get(c).reason == "dependency"
    assert store.raw.dependant_of(a) == b
    assert store.delete(a) == store.delete(a, b) == []
    assert store.revive(b).reason == "dependency"  # it still knows why
    store.settle()
    assert store.delete(a, b, c) == [a, b, c]
    assert store.raw.dependant_of(a) is None


def test_one_that_others_still_learn_of_is_kept(store):
    a = store.submit()
    b = store.submit(after=[a])
    store.cancel(a)
    assert store.delete(a) == []
    assert store.settle().failed == (b,)
    assert store.delete(a, b) == [a, b]


def test_those_that_ended_long_ago_are_found_by_their_state(store):
    good, bad, cancelled, late = (store.submit() for _ in range(4))
    store.run(good)
    store.run(bad, event=JobEvent.FAIL)
    store.cancel(cancelled)
    ended = store.now
    store.now += 10
    store.run(late)
    store.submit()
    assert expired(store, succeeded=ended + 1).ids == (good,)
    assert expired(store, succeeded=ended + 99, failed=ended + 1).ids == (good, bad, late)
    assert expired(store, failed=ended, cancelled=ended + 1).ids == (cancelled,)
    assert expired(store).ids == ()


def test_a_look_takes_a_bounded_number_of_jobs(store):
    ids = [store.submit() for _ in range(10)]
    store.run(ids[0], ids[1])
    store(lambda raw: [raw.cancel(job_id, store.now) for job_id in ids[8:]])
    looked_to, pieces = 0, []
    while looked_to is not None:
        found = expired(store, limit=4, looked_to=looked_to, succeeded=9e9, cancelled=9e9)
        pieces.append(found.ids)
        looked_to = found.looked_to
    assert pieces == [tuple(ids[:2]), (), tuple(ids[8:])]


def test_a_failure_is_kept_as_it_was(store):
    job = store.start()
    ended = store.finish(job, JobEvent.FAIL, FAILURE)
    assert store.delete() == []
    assert store.raw.get(job.id) == ended
