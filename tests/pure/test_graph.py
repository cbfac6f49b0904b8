"""Who waits for whom: any list of jobs either has an order in which all can run, or is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.jobs import JobSpec, JobState
from queued_runner.store.base import BadDependency
from queued_runner.store.graph import NewJob, Wait, wait_of, waits_of

FIRST = 100
NEVER = {JobState.FAILED, JobState.CANCELLED}
edges = st.lists(st.lists(st.integers(0, 7), max_size=4, unique=True), min_size=1, max_size=8)
states = st.dictionaries(st.integers(1, 5), st.sampled_from(JobState))


def new_jobs(after, stored=()):
    """Jobs by id; `after` are the places of others in the list, `stored` are ids for each."""
    count = len(after)
    return {
        FIRST + index: NewJob(
            index,
            JobSpec(
                command="x",
                key=f"k{index}",
                after=(*(f"k{other}" for other in others if other < count), *stored),
            ),
        )
        for index, others in enumerate(after)
    }


def has_circle(after):
    left = {index: {other for other in others if other < len(after)}
            for index, others in enumerate(after)}  # fmt: skip
    while free := [index for index, others in left.items() if not others & left.keys()]:
        for index in free:
            del left[index]
    return bool(left)


@given(edges)
def test_a_list_is_refused_where_and_only_where_it_has_a_circle(after):
    jobs = new_jobs(after)
    keys = {job.spec.key: job_id for job_id, job in jobs.items()}
    later = {job_id: job for job_id, job in jobs.items() if job.spec.after}
    if has_circle(after):
        with pytest.raises(BadDependency) as error:
            waits_of(later, keys, {})
        assert error.value.index in range(len(after))
        return
    waits = waits_of(later, keys, {})
    for job_id, wait in waits.items():
        assert wait.open == wait.after == tuple(keys[key] for key in jobs[job_id].spec.after)
        assert not wait.is_stranded


@given(edges, states)
def test_what_can_never_start_is_known_through_any_number_of_steps(after, stored):
    if has_circle(after):
        return
    jobs = new_jobs(after, tuple(stored))
    keys = {job.spec.key: job_id for job_id, job in jobs.items()}
    waits = waits_of({i: job for i, job in jobs.items() if job.spec.after}, keys, stored)
    bad = bool(NEVER & set(stored.values()))
    for wait in waits.values():
        assert wait.is_stranded == bad
        if not bad:
            done = {job_id for job_id, state in stored.items() if state is JobState.SUCCEEDED}
            assert set(wait.open) == set(wait.after) - done


def test_a_large_list_takes_no_recursion():
    count = 20_000
    jobs = {
        FIRST + n: NewJob(n, JobSpec(command="x", key=str(n), after=(str((n + 1) % count),)))
        for n in range(count)
    }
    keys = {job.spec.key: job_id for job_id, job in jobs.items()}
    with pytest.raises(BadDependency, match=r"and 19990 more of this list wait for each other"):
        waits_of(jobs, keys, {})
    waits = waits_of({i: job for i, job in jobs.items() if i != FIRST}, keys, {})
    assert len(waits) == count - 1


def test_one_that_is_gone_is_not_waited_for():
    assert wait_of((1, 2), {2: JobState.RUNNING}) == Wait((1, 2), (2,))
