"""Why a job stands where it stands: the first cause there is, and for each worker what it lacks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.explain import MAX_NAMED, Situation, explain, pending_reasons
from queued_runner.jobs import JobSpec, JobState, Limits
from remote_runner.types import WorkerInfo, satisfies
from tests.pure.records import running

QUEUED, FAILED = JobState.QUEUED, JobState.FAILED
NOW = 1000.0


def worker(number=1, free=1, slots=2, state="ready", **labels):
    taken = tuple(f"{n}.1" for n in range(slots - free))
    return WorkerInfo(f"id-{number}", f"w{number}", state, slots, free, labels, "0", "a", taken)


def situation(*workers, is_claiming=True):
    return Situation(NOW, is_claiming, workers, Limits())


def queued(spec=None, **fields):
    return running(spec, **{"state": QUEUED, "worker": None, "worker_id": None, **fields})


def pending_reason(job, situation):
    """What it is told alone, and among others."""
    (alone,) = pending_reasons([job], situation)
    others = [queued(), job, queued(GPU), job]
    assert pending_reasons(others, situation)[1::2] == [alone, alone]
    return alone


def reason(job, *workers, dependencies=(), **fields):
    return explain(job, situation(*workers, **fields), dependencies).reason


GPU = JobSpec(command="x", needs={"gpu": "1"})


@pytest.mark.parametrize(
    ("job", "workers", "expected"),
    [
        (queued(run_after=NOW + 60), [], "it is delayed until 1970-01-01T00:17:40Z"),
        (queued(), [], "no worker is connected; start one with `simple-worker`"),
        (queued(GPU), [worker()], "no connected worker has the labels gpu=1"),
        (queued(), [worker(free=0)], "all slots of the fitting workers are taken"),
        (queued(GPU), [worker(), worker(free=0, gpu="1")],
         "all slots of the fitting workers are taken"),
        (queued(), [replace(worker(free=0, state="draining"), is_leaving=True)],
         "the fitting workers are leaving and take no more jobs"),
        (queued(), [worker(free=0, state="drained"), worker(2, free=0, state="draining")],
         "every fitting worker is drained; `queued-runner resume WORKER` takes it back"),
        (queued(), [worker(free=0), worker(2)], "it is about to start"),
    ],
)  # fmt: skip
def test_the_first_cause_is_told(job, workers, expected):
    assert reason(job, *workers) == expected
    assert pending_reason(job, situation(*workers)) == expected


THREE = JobSpec(command="x", slots=3)


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([worker()], "no worker that fits has 3 slots for one job: start one with"
         " `simple-worker --slots 3` or more (without `--pull`)"),
        ([replace(worker(slots=4), widest=1)], "no worker that fits has 3 slots for one job: start"
         " one with `simple-worker --slots 3` or more (without `--pull`)"),
        ([worker(free=2, slots=4), worker(2)],
         "it waits until 3 slots of one fitting worker are free at once"),
        ([worker(free=3, slots=4)], "it is about to start"),
    ],
)  # fmt: skip
def test_several_slots_are_a_cause(workers, expected):
    assert reason(queued(THREE), *workers) == expected
    assert pending_reason(queued(THREE), situation(*workers)) == expected


def test_who_waits_behind_kept_slots_is_told_for_whom():
    kept = replace(situation(worker(1, free=2, slots=4)), kept={"id-1": 7})
    told = "the free slots are kept for job 7, which comes before it and takes more"
    for job in (queued(), queued(JobSpec(command="x", slots=2))):
        found = explain(job, kept, ())
        assert found.reason == told == pending_reasons([job], kept)[0]
        assert [fit.why for fit in found.workers] == ["free slots: 2 of 4, kept for job 7"]
    (first,) = explain(queued(THREE, id=7), kept, ()).workers
    assert first.why == "free slots: 2 of 4, and it takes 3"
    two = replace(kept, workers=[*kept.workers, worker(2)])
    assert explain(queued(), two, ()).reason == "it is about to start"


def test_a_worker_that_is_full_of_wide_jobs_says_so():
    full = replace(worker(1, free=0, slots=4), running=("1.1",), taken=4)
    (fit,) = explain(queued(), situation(full), ()).workers
    assert fit.why == "its 4 slots are taken"


def test_each_worker_says_whether_it_has_several_slots():
    workers = [
        worker(1), replace(worker(2, slots=4), widest=1), worker(3, free=2, slots=4),
        worker(4, free=0, slots=4), worker(5, free=3, slots=4),
    ]  # fmt: skip
    found = explain(queued(THREE), situation(*workers), ()).workers
    assert [fit.fits for fit in found] == [False, False, True, True, True]
    assert [fit.why for fit in found] == [
        "it has 2 of 3 slots",
        "it gives a job one slot, since it pulls over HTTP",
        "free slots: 2 of 4, and it takes 3",
        "its 4 slots are taken",
        "free slots: 3 of 4",
    ]


def test_a_server_that_stops_starts_nothing():
    assert "starts no more jobs" in reason(queued(), worker(), is_claiming=False)


@pytest.mark.parametrize(
    ("after", "open_ones", "full", "short"),
    [
        ((3,), (3,), "it waits for job 3 to succeed", None),
        ((3, 4, 5), (3, 4, 5), "it waits for jobs 3, 4 and 5 to succeed", None),
        ((3, 4, 5), (5,), "it waits for job 5 to succeed",
         "it waits for 1 of the jobs 3, 4 and 5 to succeed"),
        (range(1, 16), range(1, 16),
         "it waits for jobs 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 5 more to succeed", None),
    ],
)  # fmt: skip
def test_what_it_waits_for_is_named(after, open_ones, full, short):
    job = queued(after=tuple(after), waits_for=len(open_ones), run_after=NOW + 60)
    known = [(other, JobState.RUNNING, other in open_ones) for other in after]
    explanation = explain(job, situation(worker()), known)
    assert (explanation.reason, explanation.after) == (full, tuple(open_ones))
    assert explanation.workers == ()
    assert pending_reason(job, situation()) == (short or full)


def test_each_worker_says_what_is_wrong_with_it():
    job = queued(JobSpec(command="x", needs={"gpu": "1", "os": "linux"}))
    good = {"gpu": "1", "os": "linux"}
    found = explain(job, situation(
        worker(1), worker(2, gpu="2", os="linux"), worker(3, free=0, **good),
        worker(4, free=0, state="draining", **good), worker(5, slots=1, **good),
        worker(6, free=0, state="greeting", **good),
        replace(worker(7, free=0, **good), running=()),
    ), ())  # fmt: skip
    assert [(fit.id, fit.name, fit.fits) for fit in found.workers] == [
        (f"id-{n}", f"w{n}", n in (3, 5, 7)) for n in range(1, 8)
    ]
    assert [fit.why for fit in found.workers] == [
        "it lacks gpu=1, it lacks os=linux",
        "it has gpu=2 and not gpu=1",
        "its 2 slots are taken",
        "it is drained",
        "free slots: 1 of 1",
        "it is just connecting",
        "it has no room for more jobs just now",
    ]


@pytest.mark.parametrize(
    ("job", "workers", "expected"),
    [
        (running(worker="w1", worker_id="id-1", started_at=NOW, attempt=2), [worker()],
         "it runs on w1 since 1970-01-01T00:16:40Z, in attempt 2"),
        (running(worker="w1", worker_id="id-1", cancel_requested=True), [worker()],
         "it is being cancelled: its processes on w1 are told to end"),
        (running(JobSpec(command="x", detach=60), worker="w1", worker_id="id-1"), [worker(2)],
         "it runs on w1, which is away; the attempt is given up where that stays away for 60 s"),
    ],
)  # fmt: skip
def test_where_it_runs(job, workers, expected):
    assert reason(job, *workers) == expected
    assert pending_reason(job, situation(*workers)) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": JobState.SUCCEEDED}, "it succeeded on w, in attempt 1"),
        ({"state": JobState.CANCELLED}, "it was cancelled"),
        ({"reason": "exit", "exit_code": 3}, "it failed: its process exited with 3"),
        ({"reason": "signal", "signal": "SIGKILL"}, "it failed: its process was ended by SIGKILL"),
        ({"reason": "timeout"}, "it failed: it took longer than its timeout of 5 s"),
        ({"reason": "spawn-error"}, "could not be started; its output says why"),
        ({"reason": "worker-lost"}, "its worker w was lost, and it may not begin twice"),
        ({"reason": "quarantined", "losses": 3}, "it has lost 3 workers, and is not tried again"),
        ({"reason": "dependency"}, "jobs 3 and 5 that it came after did not succeed"),
        ({"reason": "strange"}, "it failed (strange)"),
    ],
)
def test_how_it_ended(fields, expected):
    job = running(JobSpec(command="x", timeout=5), **{"state": FAILED, **fields})
    known = [(3, FAILED, False), (4, JobState.SUCCEEDED, False), (5, JobState.CANCELLED, False)]
    assert expected in reason(job, dependencies=known)
    assert pending_reason(job, situation()) is None


def test_a_dependency_that_is_gone_or_retried_is_not_named():
    job = running(state=FAILED, reason="dependency")
    assert "a job that it came after did not succeed" in reason(job)


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)


@given(labels, st.lists(labels, max_size=4))
def test_a_worker_fits_where_and_only_where_its_labels_do(needs, others):
    job = queued(JobSpec(command="x", needs=needs))
    workers = [worker(number, **each) for number, each in enumerate(others)]
    for fit, each in zip(explain(job, situation(*workers), ()).workers, workers, strict=True):
        assert fit.fits == satisfies(each.labels, needs)
        assert fit.fits or any(name in fit.why for name in needs)


@given(st.sets(st.integers(1, 10**6), min_size=1, max_size=1024))
def test_a_sentence_is_short_whatever_it_names(ids):
    after = tuple(sorted(ids))
    text = pending_reason(queued(after=after, waits_for=len(after)), situation())
    assert len(text) < 60 + 9 * MAX_NAMED
