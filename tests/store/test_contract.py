"""What every engine of a store does: one suite, run on each of them (see `conftest.ENGINES`)."""

import pytest

from queued_runner.jobs import JobSpec, JobState
from queued_runner.lifecycle import IllegalMove, JobEvent
from queued_runner.retry import Decision
from queued_runner.store.base import JobNotFound, KeyConflict, StoredOutput, StoredResults
from queued_runner.store.sqlite import SQLiteStore
from remote_runner.results import Head, LeftOut, ResultFile
from remote_runner.types import CAN_MASK, Offer, Outcome, Reason, Slot
from tests.store.conftest import FAILURE, SUCCESS

FULL = JobSpec(
    command="printf",
    args=("%s\n", "ä€😀", ""),
    name="all of it",
    group="g",
    key="k",
    cwd="/tmp",
    env={"A": "1", "B": ""},
    shell="/bin/bash",
    stdin="in\n",
    priority=-7,
    timeout=1.5,
    kill_signal="SIGINT",
    kill_grace=0.25,
    retries=3,
    backoff=0.5,
    max_backoff=9.0,
    on_lost="fail",
    needs={"os": "linux", "gpu": ""},
    delay=0.0,
    max_log_size=12345,
    max_results_size=23456,
)

# --- submitting ---


def test_a_new_job_is_kept_as_it_was_given(store):
    (job_id,) = store.add(FULL)
    job = store.raw.get(job_id)
    assert job.spec == FULL
    assert (job.state, job.attempt, job.created_at) == (JobState.QUEUED, 0, store.now)
    assert (job.reason, job.exit_code, job.worker, job.started_at) == (None, None, None, None)
    assert not job.cancel_requested


def test_ids_grow_in_the_order_given_and_are_never_used_again(store):
    first = store.add(*[JobSpec(command=str(n)) for n in range(5)])
    assert first == sorted(set(first))
    assert [store.raw.get(job_id).spec.command for job_id in first] == ["0", "1", "2", "3", "4"]
    assert store.add() == []
    assert min(store.add(JobSpec(command="x"))) > max(first)


def test_ids_of_a_transaction_that_was_undone_leave_no_job(store):
    store.raw.begin()
    (undone,) = store.raw.add([JobSpec(command="x")], store.now).ids
    store.raw.rollback()
    with pytest.raises(JobNotFound):
        store.raw.get(undone)


@pytest.mark.parametrize("job_id", [1, 0, -1, 10**18])
def test_a_job_that_does_not_exist_is_named(store, job_id):
    for verb in (store.raw.get, store.cancel):
        with pytest.raises(JobNotFound, match=str(job_id)) as error:
            verb(job_id)
        assert error.value.job_id == job_id


def test_the_same_key_with_the_same_job_is_the_same_job(store):
    job_id = store.submit(key="k", env={"A": "1", "B": "2"}, args=("x",))
    assert store.submit(key="k", env={"B": "2", "A": "1"}, args=["x"]) == job_id
    store.finish(*store.claim())
    assert store.submit(key="k", env={"A": "1", "B": "2"}, args=("x",)) == job_id
    assert sum(store.raw.counts().values()) == 1


def test_the_same_key_twice_in_one_list(store):
    same, other = JobSpec(command="a", key="k"), JobSpec(command="b", key="l")
    first, second, third = store.add(same, other, same)
    assert first == third != second


def test_a_key_of_another_job_is_refused_and_nothing_is_added(store):
    job_id = store.submit(key="k", command="a")
    with pytest.raises(KeyConflict) as error:
        store.add(JobSpec(command="new"), JobSpec(command="b", key="k"))
    assert error.value.job_id == job_id
    with pytest.raises(KeyConflict) as error:
        store.add(JobSpec(command="c", key="m"), JobSpec(command="d", key="m"))
    assert error.value.job_id is None
    assert [job.id for job in store.raw.page()] == [job_id]


def test_a_refused_verb_changes_nothing_even_when_its_transaction_is_kept(store):
    store.submit(key="k", command="a")
    before = store.raw.page()
    store.raw.begin()
    with pytest.raises(KeyConflict):
        store.raw.add([JobSpec(command="x"), JobSpec(command="b", key="k")], store.now)
    with pytest.raises(JobNotFound):
        store.raw.cancel(99, store.now)
    store.raw.commit()
    assert store.raw.page() == before


# --- looking ---


def test_pages_go_from_the_newest_back(store):
    ids = [store.submit() for _ in range(7)]
    first = store.raw.page(limit=3)
    assert [job.id for job in first] == ids[:3:-1]
    second = store.raw.page(limit=3, before=first[-1].id)
    assert [job.id for job in second] == ids[3:0:-1]
    assert [job.id for job in store.raw.page(limit=3, before=second[-1].id)] == ids[:1]


def test_pages_by_state_group_and_name(store):
    a = store.submit(group="g", name="n")
    b = store.submit(group="g", name="m")
    c = store.submit(group="h", name="n")
    store.finish(store.claim(limit=1)[0])
    succeeded, queued = JobState.SUCCEEDED, JobState.QUEUED

    def found(**filters):
        return [job.id for job in store.raw.page(**filters)]

    assert found(group="g") == [b, a]
    assert found(name="n") == [c, a]
    assert found(group="g", name="n") == [a]
    assert found(state=succeeded) == [a]
    assert found(state=queued, group="g") == [b]
    assert found(state=queued, name="n") == [c]
    assert found(state=succeeded, group="h") == []
    assert found(state=queued, before=c) == [b]


def test_counts_by_state(store):
    for group in ("g", "g", "h"):
        store.submit(group=group)
    store.claim(limit=1)
    assert store.raw.counts() == {JobState.RUNNING: 1, JobState.QUEUED: 2}
    assert store.raw.counts("g") == {JobState.RUNNING: 1, JobState.QUEUED: 1}
    assert store.raw.counts("none") == {}


# --- claiming ---


def test_a_claim_begins_the_next_attempt(store):
    job_id = store.submit()
    store.now = 1001.0
    (job,) = store.claim()
    assert (job.id, job.state, job.attempt, job.started_at) == (job_id, "running", 1, 1001.0)
    assert store.raw.get(job_id) == job
    assert store.raw.running() == [job]
    (attempt,) = store.raw.attempts(job_id)
    assert (attempt.number, attempt.started_at, attempt.finished_at) == (1, 1001.0, None)
    assert store.claim() == []


def test_higher_priority_first_then_older(store):
    low, high, older, newer = (store.submit(priority=p) for p in (-1, 5, 0, 0))
    assert [job.id for job in store.claim()] == [high, older, newer, low]


def test_no_more_than_there_is_room_for(store):
    ids = [store.submit() for _ in range(10)]
    assert [job.id for job in store.claim(({}, 2), ({"a": "1"}, 1))] == ids[:3]
    assert [job.id for job in store.claim(({}, 100), limit=4)] == ids[3:7]
    assert store.claim(({}, 0)) == []
    assert store.claim(({}, 5), limit=0) == []


def test_needs_are_met_by_labels_of_the_same_value(store):
    plain = store.submit()
    linux = store.submit(needs={"os": "linux"})
    both = store.submit(needs={"os": "linux", "gpu": "a100"})
    store.submit(needs={"os": "mac"})
    store.submit(needs={"os": ""})
    assert [job.id for job in store.claim(({"gpu": "a100"}, 9))] == [plain]
    assert [job.id for job in store.claim(({"os": "linux", "rack": "7"}, 9))] == [linux]
    assert [job.id for job in store.claim(({"os": "linux", "gpu": "a100"}, 9))] == [both]
    assert store.claim(({}, 9)) == []


def test_a_job_with_secrets_waits_for_room_where_they_are_hidden(store):
    secret = store.submit(mask=["hunter2"], needs={"os": "linux"}, priority=9)
    plain = store.submit(needs={"os": "linux"})
    assert [job.id for job in store.claim(({"os": "linux"}, 9))] == [plain]
    assert store.claim(({CAN_MASK: ""}, 9)) == []
    (job,) = store.claim(({"os": "linux", CAN_MASK: ""}, 9))
    assert (job.id, job.spec.mask, job.spec.needs) == (secret, ("hunter2",), {"os": "linux"})


def test_a_key_with_another_secret_is_another_job(store):
    spec = {"key": "k", "mask": ["hunter2"], "env": {"TOKEN": "hunter2"}}
    job_id = store.submit(**spec)
    assert store.submit(**spec) == job_id
    for other in ({"mask": ["hunter3"]}, {"mask": []}, {"env": {}}):
        with pytest.raises(KeyConflict) as refused:
            store.submit(**{**spec, **other})
        assert "hunter" not in str(refused.value)
    store.finish(store.claim(({CAN_MASK: ""}, 1))[0])
    assert store.submit(**spec) == job_id


def test_plain_jobs_care_for_no_ability(store):
    for _ in range(4):
        store.submit()
    for offers in ((({}, 1), ({CAN_MASK: ""}, 1)), (({CAN_MASK: ""}, 1), ({}, 1))):
        assert [job.worker for job in store.claim(*offers)] == ["w1", "w0"]  # as it would be else


def test_scarce_labels_are_kept_for_those_who_need_them(store):
    plain = store.submit()
    special = store.submit(needs={"gpu": "1"})
    claimed = store.claim(({"gpu": "1"}, 1), ({}, 1))
    assert {job.id for job in claimed} == {plain, special}


def test_those_who_find_no_room_do_not_block_others(store):
    for _ in range(50):
        store.submit(needs={"gpu": "1"}, priority=9)
    plain = store.submit()
    assert [job.id for job in store.claim(({}, 3), limit=2)] == [plain]


def test_a_delayed_job_is_claimed_once_it_is_due(store):
    late = store.submit(delay=60)
    soon = store.submit(delay=30)
    assert store.claim() == []
    assert store.raw.next_run_after(store.now) == store.now + 30
    store.now += 30
    assert [job.id for job in store.claim()] == [soon]
    assert store.raw.next_run_after(store.now) == store.now + 30
    store.now += 30
    assert [job.id for job in store.claim()] == [late]
    assert store.raw.next_run_after(store.now) is None


def test_who_gets_a_job_is_written_down_with_the_claim(store):
    plain, linux = store.submit(), store.submit(needs={"os": "linux"})
    store.claim(({}, 1), ({"os": "linux"}, 1))
    for job_id, worker, worker_id in ((plain, "w0", "id-0"), (linux, "w1", "id-1")):
        job = store.raw.get(job_id)
        assert (job.worker, job.worker_id) == (worker, worker_id)
        assert job.worker_boot == worker_id.replace("id", "boot")
        assert store.raw.attempts(job_id)[0].worker == worker


def test_the_next_attempt_may_be_another_workers(store):
    job_id = store.submit(needs={"os": "linux"})
    (first,) = store.claim(({"os": "linux"}, 1))
    store.finish(first, JobEvent.RETRY, FAILURE, run_after=store.now)
    store.claim(({}, 1), ({"os": "linux"}, 1))
    assert store.raw.get(job_id).worker == "w1"
    assert [attempt.worker for attempt in store.raw.attempts(job_id)] == ["w0", "w1"]


def test_slots_are_taken_in_the_order_of_their_offer(store):
    for _ in range(3):
        store.submit()
    slots = (Slot("a", "1", "x"), Slot("b", "2", "y"), Slot("a", "1", "x"))
    jobs = store(lambda raw: raw.claim([Offer({}, slots)], store.now, 9))
    assert [job.worker for job in jobs] == ["a", "b", "a"]


# --- ends ---


def test_success_is_written_down(store):
    job = store.start()
    store.now = 2000.0
    ended = store.finish(job, output=StoredOutput(5, 2, b"records"))
    assert ended == store.raw.get(job.id)
    assert (ended.state, ended.reason, ended.exit_code) == (JobState.SUCCEEDED, "exit", 0)
    assert (ended.finished_at, ended.log_bytes, ended.log_dropped) == (2000.0, 5, 2)
    assert (ended.failures, ended.losses) == (0, 0)
    (attempt,) = store.raw.attempts(job.id)
    assert (attempt.reason, attempt.exit_code, attempt.finished_at) == ("exit", 0, 2000.0)
    assert (attempt.duration, attempt.max_rss, attempt.cpu_time) == (0.5, 4096, 0.25)
    assert (attempt.log_bytes, attempt.log_dropped) == (5, 2)
    assert store.raw.stored_output(job.id, 1) == StoredOutput(5, 2, b"records")
    assert store.raw.stored_output(job.id, 2) is None
    assert store.raw.running() == []


def test_a_failure_with_a_retry_waits_for_its_turn(store):
    job = store.start()
    again = store.finish(job, JobEvent.RETRY, FAILURE, run_after=store.now + 5, is_failure=True)
    assert (again.state, again.failures, again.finished_at) == (JobState.QUEUED, 1, None)
    assert store.claim() == []
    store.now += 5
    (second,) = store.claim()
    assert (second.attempt, second.exit_code, second.reason) == (2, None, None)
    store.finish(second)
    assert [a.exit_code for a in store.raw.attempts(job.id)] == [3, 0]


def test_losses_are_counted_apart_from_failures(store):
    job = store.start()
    lost = Outcome(Reason.WORKER_LOST)
    again = store.finish(job, JobEvent.RESCUE, lost, run_after=store.now, is_loss=True)
    assert (again.losses, again.failures) == (1, 0)
    (second,) = store.claim()
    ended = store.finish(second, JobEvent.FAIL, lost, reason="quarantined", is_loss=True)
    assert (ended.state, ended.reason, ended.losses) == (JobState.FAILED, "quarantined", 2)


def test_a_released_job_spends_nothing(store):
    job = store.start()
    again = store.finish(job, JobEvent.RELEASE, Outcome(Reason.REFUSED), run_after=store.now)
    assert (again.state, again.losses, again.failures) == (JobState.QUEUED, 0, 0)


def test_an_outcome_counts_once_and_only_for_the_newest_attempt(store):
    job = store.start()
    assert store.finish(job, JobEvent.RETRY, FAILURE, run_after=store.now) is not None
    assert store.finish(job) is None
    (second,) = store.claim()
    assert store.finish(job) is None
    assert store.raw.get(job.id).state is JobState.RUNNING
    assert store.finish(second) is not None
    assert store.finish(second, JobEvent.FAIL, FAILURE) is None
    assert store.raw.get(job.id).state is JobState.SUCCEEDED


def test_a_decision_that_the_table_does_not_know_changes_nothing(store):
    job = store.start()
    with pytest.raises(IllegalMove):
        store.finish(job, JobEvent.REVIVE)
    assert store.raw.get(job.id) == job


def test_the_decision_sees_the_job_as_it_is(store):
    job = store.start()
    store.cancel(job.id)
    seen = []

    def decide(current):
        seen.append(current)
        return Decision(JobEvent.CANCEL, "cancelled")

    output = StoredOutput(0, 0, None)
    store(lambda raw: raw.finish(job.id, 1, decide, SUCCESS, output, store.now))
    assert [current.cancel_requested for current in seen] == [True]


# --- cancelling ---


def test_a_queued_job_is_cancelled_at_once(store):
    job_id = store.submit()
    job = store.cancel(job_id)
    assert (job.state, job.reason, job.finished_at) == (JobState.CANCELLED, "cancelled", store.now)
    assert store.claim() == []


def test_a_delayed_job_is_cancelled_at_once(store):
    job_id = store.submit(delay=60)
    assert store.cancel(job_id).state is JobState.CANCELLED
    store.now += 60
    assert store.claim() == []
    assert store.raw.next_run_after(store.now) is None


def test_a_running_job_is_asked_to_end(store):
    job = store.start()
    asked = store.cancel(job.id)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    assert store.raw.running() == [asked]


def test_a_job_that_has_ended_stays_as_it_is(store):
    job = store.start()
    ended = store.finish(job)
    assert store.cancel(job.id) == ended


def test_a_queue_has_an_id_of_its_own(store, tmp_path):
    other = SQLiteStore(tmp_path / "other.db")
    ids = {store.raw.identity(), other.identity()}
    assert len(ids) == 2
    assert all(ids)
    other.close()
    again = SQLiteStore(tmp_path / "other.db")
    assert {store.raw.identity(), again.identity()} == ids
    again.close()


# --- drained workers ---


def test_drained_workers_are_kept_until_they_are_resumed(store):
    assert store.raw.drained_workers() == {}
    for worker_id, name in (("id-2", "two"), ("id-1", "one"), ("id-2", "renamed"), ("", "")):
        store(lambda raw, given=(worker_id, name): raw.drain_worker(*given, store.now))
        store.now += 1
    assert list(store.raw.drained_workers().items()) == [("id-2", "two"), ("id-1", "one"), ("", "")]
    for worker_id in ("id-2", "id-2", "unknown"):
        store(lambda raw, given=worker_id: raw.resume_worker(given))
    assert store.raw.drained_workers() == {"id-1": "one", "": ""}


# --- what is said of an end before it, and of output after it ---


def test_what_is_said_of_an_end_is_kept_while_the_attempt_runs_on(store):
    job = store.start()
    assert store(lambda raw: raw.report(job.id, job.attempt, FAILURE))
    (attempt,) = store.raw.attempts(job.id)
    assert (attempt.reason, attempt.exit_code, attempt.finished_at) == ("exit", 3, None)
    assert store.raw.get(job.id).state is JobState.RUNNING
    store.finish(job, JobEvent.SUCCEED, SUCCESS)
    (attempt,) = store.raw.attempts(job.id)
    assert (attempt.reason, attempt.exit_code) == ("exit", 0)


def test_what_is_said_of_the_end_of_a_stale_attempt_is_not_kept(store):
    job = store.start()
    assert not store(lambda raw: raw.report(job.id, job.attempt + 1, FAILURE))
    store.finish(job)
    assert not store(lambda raw: raw.report(job.id, job.attempt, FAILURE))
    (attempt,) = store.raw.attempts(job.id)
    assert attempt.exit_code == 0


def test_output_that_came_after_the_end_counts_for_its_attempt(store):
    job = store.start()
    store(lambda raw: raw.lengthen(job.id, job.attempt, 5, 1))
    assert store.raw.get(job.id).log_bytes == 0  # it has not ended: its end will say it
    store.finish(job, output=StoredOutput(10, 2, None))
    store(lambda raw: raw.lengthen(job.id, job.attempt, 15, 1))
    (attempt,) = store.raw.attempts(job.id)
    for found in (attempt, store.raw.get(job.id)):
        assert (found.log_bytes, found.log_dropped) == (15, 3)


def test_late_output_of_an_earlier_attempt_is_not_that_of_the_job(store):
    first = store.start()
    store.finish(first, JobEvent.RETRY, FAILURE)
    (second,) = store.claim()
    store.finish(second, output=StoredOutput(7, 0, None))
    store(lambda raw: raw.lengthen(first.id, first.attempt, 4, 0))
    assert [attempt.log_bytes for attempt in store.raw.attempts(first.id)] == [4, 7]
    assert store.raw.get(first.id).log_bytes == 7


# --- results ---

HEAD = Head((ResultFile("a/ä", 3), ResultFile("b", 0)), (LeftOut("c", "it is a link"),), 7)


@pytest.mark.parametrize("inline", [b"", b"\0\xffx", None])
def test_results_of_an_attempt_are_kept_as_they_are(store, inline):
    job = store.start(retries=1)
    assert store.raw.results(job.id, 1) is None
    results = StoredResults(HEAD, 12, inline, 3)
    store.finish(job, JobEvent.RETRY)
    store(lambda raw: raw.add_results(job.id, 1, results))
    assert store.raw.results(job.id, 1) == results
    assert store.raw.results(job.id, 2) is None
    assert store.raw.results(job.id + 1, 1) is None
    assert store.raw.result_files() == ([(job.id, 1, 3)] if inline is None else [])


def test_results_go_with_the_end_that_is_undone(store):
    job = store.start()
    store.raw.begin()
    store.raw.add_results(job.id, 1, StoredResults(HEAD, 0, b"abc"))
    store.raw.rollback()
    assert store.raw.results(job.id, 1) is None
