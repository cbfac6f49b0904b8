"""Jobs that come after others, on every engine: who waits, who is let go, and who fails."""

import random
from itertools import count

import apsw
import pytest

from queued_runner.jobs import JobSpec, JobState
from queued_runner.lifecycle import JobEvent
from queued_runner.store import dependencies, graph
from queued_runner.store.base import BadDependency, JobNotFound, NotEnded, Stranded
from queued_runner.store.sqlite import MEMORY, SQLiteStore
from remote_runner.types import Offer, Slot
from tests.store.conftest import FAILURE

QUEUED, FAILED, SUCCEEDED = JobState.QUEUED, JobState.FAILED, JobState.SUCCEEDED


def spec(key=None, *after, **fields):
    return JobSpec(command="x", key=key, after=after, **fields)


def states(store):
    return {job.id: job.state for job in store.raw.page(limit=10_000)}


def standing(store, job_id):
    job = store.raw.get(job_id)
    return job.state, job.reason, job.waits_for


# --- submitting ---


def test_a_job_waits_until_all_it_comes_after_have_succeeded(store):
    a, b = store.submit(), store.submit()
    c = store.submit(after=(a, b))
    job = store.raw.get(c)
    assert (job.state, job.after, job.waits_for, job.attempt) == (QUEUED, (a, b), 2, 0)
    assert store.raw.dependencies(c) == [(a, QUEUED, True), (b, QUEUED, True)]
    first, second = store.claim()
    store.finish(first)
    assert store.settle().released == ()
    assert (store.raw.get(c).waits_for, store.claim()) == (1, [])
    store.finish(second)
    assert store.settle().released == (c,)
    assert [job.id for job in store.claim()] == [c]


def test_a_list_may_describe_a_whole_graph_in_any_order(store):
    last, middle, other, first = store.add(
        spec("last", "middle", "other"), spec("middle", "first"), spec("other", "first"),
        spec("first"),
    )  # fmt: skip
    assert store.raw.get(last).after == (middle, other)
    store.run(first, middle, other, last)
    assert set(states(store).values()) == {SUCCEEDED}


def test_a_key_may_be_that_of_a_stored_job(store):
    a = store.submit(key="a")
    b, c = store.add(spec("b", "a"), spec(None, "b", "a", a, "b"))
    assert (store.raw.get(b).after, store.raw.get(c).after) == ((a,), (b, a))
    # The same list again is the same jobs; what is in it by now known is not looked at again.
    assert store.add(spec("b", "a"), spec("a2", "b"))[0] == b


def test_what_has_already_ended_counts_at_once(store):
    done, failed, cancelled = store.submit(), store.submit(), store.submit()
    store.cancel(cancelled)
    store.run(done)
    store.run(failed, event=JobEvent.FAIL)
    ready, stranded, also = store.add(
        spec("r", done), spec("s", done, failed), spec("t", "s", cancelled)
    )
    assert standing(store, ready) == (QUEUED, None, 0)
    for job_id in (stranded, also):
        assert standing(store, job_id) == (FAILED, "dependency", 0)
        assert store.raw.get(job_id).finished_at == store.now
    assert [job.id for job in store.claim()] == [ready]


@pytest.mark.parametrize(
    ("specs", "index", "place", "words"),
    [
        ([spec("n"), spec(None, 99)], 1, 0, "there is no job 99"),
        ([spec("n"), spec(None, "n", 2)], 1, 1, "there is no job 2"),  # an id not told yet
        ([spec(None, "nobody")], 0, 0, "no job with this key"),
        ([spec("a", "a")], 0, 0, "cannot come after itself"),
        ([spec("n"), spec("a", "b"), spec("b", "c", "n"), spec("c", "a")], 1, None, "circle"),
    ],
)
def test_what_leads_nowhere_is_refused_and_nothing_is_stored(store, specs, index, place, words):
    known = store.submit(key="known")
    store.raw.begin()
    with pytest.raises(BadDependency, match=words) as error:
        store.raw.add(specs, store.now)
    store.raw.commit()
    assert error.value.place == place
    assert error.value.index in (index, 2, 3) if place is None else error.value.index == index
    assert states(store) == {known: QUEUED}


def test_a_list_with_too_many_dependencies_is_refused(store, monkeypatch):
    monkeypatch.setattr(graph, "MAX_DEPENDENCIES", 3)
    ids = [store.submit(), store.submit()]
    store.submit(after=ids)
    with pytest.raises(BadDependency, match="in several lists"):
        store.add(spec(None, *ids), spec(None, *ids))


def test_a_chain_of_a_whole_list_is_no_recursion(store):
    ids = store.add(spec("0"), *(spec(str(n), str(n - 1)) for n in range(1, 3000)))
    store.cancel(ids[0])
    assert sorted(store.settle().failed) == ids[1:]


# --- ends ---


@pytest.mark.parametrize("how", ["fail", "cancel queued", "cancel running"])
def test_a_failure_fails_all_that_wait_for_it_and_for_those(store, how):
    a, free = store.submit(priority=1), store.submit()
    b = store.submit(after=[a])
    c = store.submit(after=[b, free])
    d = store.submit(after=[c], delay=60)
    if how == "cancel queued":
        store.cancel(a)
    else:
        (job,) = store.claim(limit=1)
        event = JobEvent.FAIL if how == "fail" else JobEvent.CANCEL
        store.finish(job, event, FAILURE)
    store.now += 5
    assert store.settle().failed == (b, c, d)
    for job_id in (b, c, d):
        assert standing(store, job_id) == (FAILED, "dependency", 0)
        job = store.raw.get(job_id)
        assert (job.finished_at, job.attempt, job.exit_code) == (store.now, 0, None)
    assert store.settle().failed == ()
    store.run(free)  # one that waited for it has failed by now, and stays so
    assert standing(store, c) == (FAILED, "dependency", 0)


def test_a_retry_keeps_dependants_waiting(store):
    a = store.submit()
    b = store.submit(after=[a])
    (job,) = store.claim()
    store.finish(job, JobEvent.RETRY, FAILURE, run_after=store.now)
    assert store.settle().failed == ()
    store.run(a, b)


def test_a_cancelled_job_stays_cancelled_when_its_dependency_ends(store):
    a, other = store.submit(), store.submit()
    b, c = store.submit(after=[a]), store.submit(after=[other])
    store.cancel(b)
    store.cancel(c)
    store.run(a)
    store.run(other, event=JobEvent.FAIL)
    assert {states(store)[b], states(store)[c]} == {JobState.CANCELLED}


def test_a_delay_is_counted_from_the_submit(store):
    a = store.submit()
    b = store.submit(after=[a], delay=60)
    assert store.raw.next_run_after(store.now) is None
    store.run(a)
    assert (store.claim(), store.raw.next_run_after(store.now)) == ([], store.now + 60)
    store.now += 60
    assert [job.id for job in store.claim()] == [b]


@pytest.mark.parametrize("event", [JobEvent.SUCCEED, JobEvent.FAIL])
def test_many_dependants_are_told_in_pieces_and_none_twice(store, monkeypatch, event):
    monkeypatch.setattr(dependencies, "BUDGET", 10)
    a = store.submit()
    waiting = [store.submit(after=[a]) for _ in range(35)]
    (job,) = store.claim()
    store.finish(job, event, FAILURE)
    pieces = []
    while True:
        settled = store(lambda raw: raw.settle(store.now))
        pieces.append(settled.failed + settled.released)
        if settled.is_all:
            break
    assert max(map(len, pieces)) == 10
    assert [job_id for piece in pieces for job_id in piece] == waiting


def test_a_transaction_settles_so_much_however_often_it_is_asked(store, monkeypatch):
    monkeypatch.setattr(dependencies, "BUDGET", 10)
    a = store.submit()
    for _ in range(35):
        store.submit(after=[a])
    (job,) = store.claim()
    store.finish(job)
    assert sum(len(settled.released) for settled in store(lambda raw: [
        raw.settle(store.now) for _ in range(5)])) == 10  # fmt: skip


def test_what_is_half_told_is_told_on_by_the_next_server(tmp_path, monkeypatch):
    monkeypatch.setattr(dependencies, "BUDGET", 10)
    path = tmp_path / "queue.db"
    store = SQLiteStore(path)
    store.begin()
    (a,) = store.add([spec("a")], 0.0).ids
    waiting = store.add([spec(None, "a")] * 25, 0.0).ids
    store.cancel(a, 1.0)
    told = store.settle(1.0).failed
    store.commit()
    store.begin()
    store.settle(1.0)
    store.close()  # a crash in the middle of the second piece
    store = SQLiteStore(path)
    while True:
        store.begin()
        settled = store.settle(2.0)
        store.commit()
        told += settled.failed
        if settled.is_all:
            break
    assert list(told) == waiting
    store.close()


# --- a person's retry ---


def test_a_job_is_revived_with_all_its_chances(store):
    job_id = store.submit(delay=30, retries=1)
    store.now += 30
    (job,) = store.claim()
    store.finish(job, JobEvent.FAIL, FAILURE, is_failure=True, is_loss=True)
    store.now += 1000
    revived = store.revive(job_id)
    assert (revived.state, revived.attempt, revived.failures, revived.losses) == (QUEUED, 1, 0, 0)
    assert (revived.reason, revived.exit_code, revived.worker) == (None, None, None)
    assert (revived.started_at, revived.finished_at, revived.cancel_requested) == (
        None,
        None,
        False,
    )
    (again,) = store.claim()
    assert (again.id, again.attempt) == (job_id, 2)
    assert [attempt.exit_code for attempt in store.raw.attempts(job_id)] == [3, None]
    assert store.finish(job) is None


def test_a_cancelled_job_can_be_revived(store):
    job_id = store.submit()
    store.cancel(job_id)
    assert not store.revive(job_id).cancel_requested
    store.run(job_id)


def test_only_what_has_ended_is_revived(store):
    running, queued = store.start().id, store.submit()
    for job_id, state in ((running, "running"), (queued, "queued")):
        with pytest.raises(NotEnded, match=rf"job {job_id} is {state}.*cancel it first"):
            store.revive(job_id)
    with pytest.raises(JobNotFound):
        store.revive(99)


def test_a_revived_job_looks_again_at_what_it_comes_after(store):
    a, b = store.add(spec("a"), spec("b", "a"))
    (c,) = store.add(spec("c", "b"))
    store.run(a, event=JobEvent.FAIL)
    assert standing(store, store.revive(b).id) == (FAILED, "dependency", 0)
    store.revive(a)
    assert standing(store, store.revive(b).id) == (QUEUED, None, 1)
    assert standing(store, store.revive(c).id) == (QUEUED, None, 1)
    store.run(a, b, c)
    assert standing(store, store.revive(c).id) == (QUEUED, None, 0)
    store.run(c)


def test_a_success_counts_once_whatever_follows(store):
    a, other = store.submit(priority=1), store.submit()
    b = store.submit(after=[a, other])
    store.run(a)
    store.revive(a)
    store.run(a)
    assert standing(store, b) == (QUEUED, None, 1)
    store.revive(a)
    store.run(a, event=JobEvent.FAIL)
    assert standing(store, b) == (QUEUED, None, 1)
    store.run(other, b)


def test_one_that_is_revived_before_all_were_told_is_waited_for_again(store, monkeypatch):
    monkeypatch.setattr(dependencies, "BUDGET", 10)
    a = store.submit()
    waiting = [store.submit(after=[a]) for _ in range(15)]
    store.cancel(a)
    told = store(lambda raw: raw.settle(store.now)).failed
    assert list(told) == waiting[:10]
    store.revive(a)
    assert store.settle().failed == ()
    store.run(a)
    assert [job.id for job in store.claim()] == waiting[10:]


# --- any order of events ---


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_in_whatever_order_none_begins_early_or_waits_for_ever(
    store, monkeypatch, seed
):
    monkeypatch.setattr(dependencies, "BUDGET", 2)
    rng = random.Random(seed)
    succeeded, ids, running, lists = set(), [], [], count()

    def add():
        some, number = rng.sample(ids, min(len(ids), rng.randint(0, 3))), next(lists)
        fresh = [
            spec(f"{number}-{n}", *some[n:], *(f"{number}-{m}" for m in range(n + 1, 3)))
            for n in range(3)
        ]
        ids.extend(store.add(*fresh))

    def claim():
        for job in store.claim(limit=2):
            known = {job.id for job in store.raw.page(limit=1000)}
            assert {other for other in job.after if other in known} <= succeeded
            running.append(job)

    def finish():
        if running:
            job = running.pop(rng.randrange(len(running)))
            event = rng.choice((JobEvent.SUCCEED, JobEvent.FAIL, JobEvent.RETRY))
            store.finish(job, event, FAILURE, run_after=store.now)
            if event is JobEvent.SUCCEED:
                succeeded.add(job.id)

    def on_any(act):
        if ids:
            act(rng.choice(ids))

    def revive(job_id):
        if store.raw.get(job_id).state.is_terminal:
            store.revive(job_id)

    def delete(job_id):
        if store.delete(job_id):
            ids.remove(job_id)

    acts = (add, claim, claim, finish, finish, lambda: on_any(store.cancel),
            lambda: on_any(revive), lambda: on_any(revive), lambda: on_any(delete),
            lambda: store(lambda raw: raw.settle(store.now)), store.settle)  # fmt: skip
    for _ in range(150):
        rng.choice(acts)()
    store.settle()
    for job in store.raw.page(limit=10_000):
        still = [state for _, state, is_open in store.raw.dependencies(job.id) if is_open]
        if job.state is QUEUED:
            assert job.waits_for == len(still)
            assert not any(state.is_terminal for state in still)
    while running or (running := store.claim()):
        store.finish(running.pop())
        store.settle()
    assert not {QUEUED, JobState.RUNNING} & set(states(store).values())


# --- what it costs ---


def steps(prepare, act):
    """The steps of SQLite's machine that `act(store)` takes, and what statements it runs."""
    opened = []
    hooks, apsw.connection_hooks = apsw.connection_hooks, [opened.append]
    try:
        store = SQLiteStore(MEMORY)
    finally:
        apsw.connection_hooks = hooks
    prepare(store)
    count, statements = 0, []

    def tick():
        nonlocal count
        count += 1
        return False

    def trace(cursor, statement, bindings):
        statements.append(statement)
        return True

    opened[0].set_progress_handler(tick, 10)
    opened[0].set_exec_trace(trace)
    act(store)
    store.close()
    return count, statements


def claim(store):
    store.claim([Offer({}, (Slot("w", "w-1", "b"),) * 8)], 1.0, 1000)
    store.next_run_after(1.0)


def test_a_claim_does_not_meet_those_that_wait():
    def prepare(waiting):
        def add(store):
            store.add([spec("gate", needs={"no": "worker"}, priority=9)], 0.0)
            for _ in range(0, waiting, 10_000):
                store.add([spec(None, "gate", priority=5)] * 5000, 0.0)
                store.add([spec(None, "gate", needs={"a": "b"}, delay=0.5)] * 5000, 0.0)
            store.add([spec()] * 100, 0.0)

        return add

    few, _ = steps(prepare(10), claim)
    many, _ = steps(prepare(30_000), claim)
    assert many <= few * 1.5


def test_a_job_without_dependencies_runs_no_further_statement():
    def add(store):
        store.add([spec()] * 10, 0.0)

    _, statements = steps(lambda store: None, add)
    assert len(statements) == 2 + 9  # what the last id is, then an insert for each
    assert not any(
        "dependencies" in statement or "settling" in statement for statement in statements
    )


def test_who_is_stranded_is_told_with_its_secrets(store):
    """So that whoever tells of it can leave them out."""
    first = store.submit()
    plain = store.submit(after=(first,), name="n", needs={"gpu": "1"})
    secret = store.submit(after=(first,), name="n", needs={"zone": "z"}, mask=("hunter2", "other"))
    store.cancel(first)
    assert store.settle().stranded == (
        Stranded(plain, "n", None, 0),
        Stranded(secret, "n", None, 0, ("hunter2", "other")),
    )
