"""What the `after` of new jobs comes to: who waits for whom, and that none waits for ever. Pure.

It owns the refusal of references that lead nowhere or in a circle. It stores nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from queued_runner.jobs import JobSpec, JobState
from queued_runner.store.base import BadDependency

MAX_DEPENDENCIES: Final = 50_000
"""Of all jobs of one list together: bounds the time that its commit takes."""

_NEVER: Final = frozenset((JobState.FAILED, JobState.CANCELLED))


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job of a list that is not stored yet; `index` is its place there."""

    index: int
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class Wait:
    """How a job stands to those it comes after: all of them, and those that are still `open`."""

    after: tuple[int, ...]
    open: tuple[int, ...] = ()
    is_stranded: bool = False
    """One of them has failed, or will: the job can never start."""


def wait_of(after: Collection[int], states: Mapping[int, JobState]) -> Wait:
    """How a job stands to jobs in these states; one without a state is gone, and not waited for."""
    known = [(job_id, states[job_id]) for job_id in after if job_id in states]
    if any(state in _NEVER for _, state in known):
        return Wait(tuple(after), is_stranded=True)
    still = (job_id for job_id, state in known if state is not JobState.SUCCEEDED)
    return Wait(tuple(after), tuple(still))


def waits_of(
    jobs: Mapping[int, NewJob], keys: Mapping[str, int], states: Mapping[int, JobState]
) -> dict[int, Wait]:
    """How new jobs stand to those they come after.

    Args:
        jobs: the new ones that come after others, by the ids that they get.
        keys: the ids behind keys, of new jobs and of stored ones.
        states: of the stored jobs that are referred to.

    Raises:
        BadDependency: a reference leads nowhere, or in a circle; or there are too many.
    """
    if sum(len(job.spec.after) for job in jobs.values()) > MAX_DEPENDENCIES:
        raise BadDependency(
            f"the jobs of one list come after {MAX_DEPENDENCIES:,} others together at most; send"
            " them in several lists"
        )
    after = {job_id: _resolved(job_id, job, keys, states) for job_id, job in jobs.items()}
    waits: dict[int, Wait] = {}
    # What is not stored yet is new, and comes with the same list.
    known = {other: JobState.QUEUED for others in after.values() for other in others} | dict(states)
    for job_id in _in_order(after, jobs):
        waits[job_id] = wait = wait_of(after[job_id], known)
        known[job_id] = JobState.FAILED if wait.is_stranded else JobState.QUEUED
    return waits


def _resolved(
    job_id: int,
    job: NewJob,
    keys: Mapping[str, int],
    states: Mapping[int, JobState],
) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for place, reference in enumerate(job.spec.after):
        if isinstance(reference, int):
            other = reference if reference in states else None  # an id is one that was told
            words = f"there is no job {reference}; 'queued-runner ps' lists what there is"
        else:
            other = keys.get(reference)
            words = "there is no job with this key, neither stored nor in this list"
        if other is None:
            raise BadDependency(words, job.index, place)
        if other == job_id:
            raise BadDependency("a job cannot come after itself", job.index, place)
        found[other] = None
    return tuple(found)


def _in_order(after: Mapping[int, tuple[int, ...]], jobs: Mapping[int, NewJob]) -> list[int]:
    """Those that come after others, each behind those of its own list that it comes after."""
    graph = {job_id: [other for other in others if other in after]
             for job_id, others in after.items()}  # fmt: skip
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        indices = [jobs[job_id].index for job_id in error.args[1][:-1]]
        circle = ", ".join(f"[{index}]" for index in indices[:10])
        more = f" and {len(indices) - 10} more" if len(indices) > 10 else ""
        raise BadDependency(
            f"the jobs {circle}{more} of this list wait for each other in a circle; none of them"
            " could ever start",
            indices[0],
        ) from None
