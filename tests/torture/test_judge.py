"""The judge sees each way in which a promise can be broken, and only those."""

from dataclasses import replace

import pytest

from tests.torture.job import FAILURE, KINDS, pattern
from tests.torture.judge import STREAMS, AttemptRecord, Evidence, JobRecord, WitnessLine, judge


def _output(job, attempt, kind):
    return {
        stream: pattern(job, attempt, stream, 0, KINDS[kind].lines[stream]) for stream in STREAMS
    }


def _attempt(job, number, kind, **changes):
    size = sum(map(len, _output(job, number, kind).values()))
    record = AttemptRecord(
        job, number, "w1", 10.0, 11.0, "exit", KINDS[kind].exit_code(number), size
    )
    return record._replace(**changes)


@pytest.fixture
def evidence():
    """Job 1 has ended at once, job 2 in its second attempt."""
    runs = [(1, 1, "small"), (2, 1, "failing"), (2, 2, "failing")]
    return Evidence(
        submitted={1: "small", 2: "failing"},
        jobs={1: JobRecord(1, "succeeded", None, 1), 2: JobRecord(2, "succeeded", None, 2)},
        attempts=[_attempt(*run) for run in runs],
        witness=[WitnessLine("begins", job, number, 100 + number) for job, number, _ in runs],
        output={(job, number): _output(job, number, kind) for job, number, kind in runs},
    )


def _sorts(evidence):
    return [violation.sort for violation in judge(evidence)]


def test_what_is_as_it_should_be_is_no_violation(evidence):
    assert evidence.attempts[1].exit_code == FAILURE
    assert judge(evidence) == []


@pytest.mark.parametrize(
    "job",
    [
        None,
        JobRecord(1, "running", None, 1),
        JobRecord(1, "failed", "exit", 1),
        JobRecord(1, "failed", "quarantined", 1),  # after no loss at all
    ],
)
def test_a_job_that_is_not_there_or_has_not_succeeded_is_lost(evidence, job):
    evidence.jobs.pop(1)
    if job is not None:
        evidence.jobs[1] = job
    assert _sorts(evidence) == ["lost"]


def test_a_job_that_nobody_was_told_of_is_doubled(evidence):
    evidence.jobs[3] = JobRecord(3, "succeeded", None, 1)
    assert _sorts(evidence) == ["doubled"]


def test_an_attempt_that_begins_twice_or_beside_another_is_doubled(evidence):
    evidence.witness += [WitnessLine("begins", 1, 1, 7), WitnessLine("overlaps", 2, 2, 8)]
    assert _sorts(evidence) == ["doubled", "doubled"]


def test_an_attempt_that_began_before_it_was_durable_is_wrong(evidence):
    evidence.witness.append(WitnessLine("begins", 1, 2, 7))
    assert _sorts(evidence) == ["wrong"]


def test_an_attempt_that_is_said_not_to_have_begun_and_did_is_doubled(evidence):
    evidence.attempts.append(AttemptRecord(1, 2, "w1", 1.0, 2.0, "refused", None, 0))
    assert _sorts(evidence) == []
    evidence.witness.append(WitnessLine("begins", 1, 2, 7))
    assert _sorts(evidence) == ["doubled"]


def test_an_attempt_that_has_ended_and_never_began_is_lost(evidence):
    del evidence.witness[0]
    assert _sorts(evidence) == ["lost"]


def test_a_wrong_exit_code_or_reason_is_wrong(evidence):
    evidence.attempts[0] = evidence.attempts[0]._replace(exit_code=1)
    assert _sorts(evidence) == ["wrong"]
    evidence.attempts[0] = evidence.attempts[0]._replace(reason="signal")
    assert _sorts(evidence) == ["wrong"]


@pytest.mark.parametrize("reason", ["worker-lost", "abandoned", "unheard"])
def test_a_loss_needs_an_excuse(evidence, reason):
    evidence.attempts[1] = evidence.attempts[1]._replace(reason=reason)
    assert _sorts(evidence) == ["lost"]
    assert _sorts(replace(evidence, may_lose=lambda attempt: attempt.job == 2)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + data[-1:],
        lambda data: data[:50] + b"?" + data[51:],
        lambda data: data[20:],
        lambda data: b"",
    ],
)
def test_output_of_an_attempt_that_has_ended_is_exact(evidence, change):
    found = evidence.output[1, 1]["stdout"] = change(evidence.output[1, 1]["stdout"])
    size = len(found) + len(evidence.output[1, 1]["stderr"])
    evidence.attempts[0] = evidence.attempts[0]._replace(log_bytes=size)
    assert _sorts(evidence) == ["differs"]


def test_output_of_an_attempt_that_was_lost_is_a_beginning_of_what_it_printed(evidence):
    whole = evidence.output[2, 1]["stdout"]
    evidence = replace(evidence, may_lose=lambda attempt: True)
    for found, sorts in ((whole[:7], []), (whole[1:7], ["differs"])):
        evidence.output[2, 1] = {"stdout": found}
        evidence.attempts[1] = evidence.attempts[1]._replace(
            reason="worker-lost", log_bytes=len(found)
        )
        assert _sorts(evidence) == sorts


def test_the_size_in_the_row_is_that_of_the_output(evidence):
    evidence.attempts[0] = evidence.attempts[0]._replace(log_bytes=1)
    assert _sorts(evidence) == ["differs"]


def test_a_job_that_was_cancelled_ends_so_with_a_beginning_of_its_output(evidence):
    evidence = replace(evidence, cancelled={1})
    assert _sorts(evidence) == ["lost"]
    evidence.jobs[1] = JobRecord(1, "cancelled", "cancelled", 1)
    found = evidence.output[1, 1]["stdout"][:7]
    evidence.output[1, 1] = {"stdout": found}
    evidence.attempts[0] = evidence.attempts[0]._replace(
        reason="killed", exit_code=None, log_bytes=len(found)
    )
    assert _sorts(evidence) == []
    evidence.output[1, 1] = {"stdout": b"?" * len(found)}
    assert _sorts(evidence) == ["differs"]


def test_who_follows_an_attempt_sees_what_is_stored(evidence):
    followed = {(1, 1): dict(evidence.output[1, 1])}
    evidence = replace(evidence, followed=followed)
    assert _sorts(evidence) == []
    followed[1, 1]["stderr"] = followed[1, 1]["stderr"][:-1]
    assert _sorts(evidence) == ["differs"]
