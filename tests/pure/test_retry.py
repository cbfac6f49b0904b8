"""What an attempt's end means: who spends what, how long it is waited, and when it is over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.jobs import JobSpec, JobState
from queued_runner.lifecycle import JobEvent, move
from queued_runner.retry import MAX_LOSSES, REFUSED_PAUSE, backoff_delay, decide
from remote_runner.types import Outcome, Reason
from tests.pure.records import running

NOW = 1_000_000.0
LOSSES = [Reason.WORKER_LOST, Reason.ABANDONED]
FREE = [Reason.REFUSED, Reason.GIVEN_BACK, Reason.STOPPED, Reason.UNHEARD]
FAILURES = [reason for reason in Reason if reason not in (*LOSSES, *FREE)]
jitter = st.floats(0, 1, exclude_max=True)
seconds = st.just(0.0) | st.floats(0.001, 1e8)


jobs = st.builds(
    lambda cancelled, failures, losses, **fields: running(
        JobSpec(command="x", **fields),
        cancel_requested=cancelled, failures=failures, losses=losses,
    ),
    cancelled=st.booleans(),
    failures=st.integers(0, 5),
    losses=st.integers(0, MAX_LOSSES - 1),
    retries=st.integers(0, 5),
    backoff=seconds,
    max_backoff=seconds,
    on_lost=st.sampled_from(["retry", "fail"]),
)  # fmt: skip
exits = st.integers(-255, 255)
outcomes = st.builds(Outcome, st.sampled_from(Reason), exit_code=st.none() | exits)


def outcome_of(reason):
    return Outcome(reason, exit_code=1 if reason is Reason.EXIT else None)


@given(seconds, seconds, st.integers(0, 10_000), jitter)
def test_the_pause_lies_between_half_and_whole_of_a_doubling_one(base, ceiling, failures, random):
    whole = min(ceiling, base * 2.0 ** min(failures, 100))
    delay = backoff_delay(base, ceiling, failures, lambda: random)
    assert whole / 2 <= delay <= whole <= ceiling


@given(seconds, seconds, st.integers(0, 100))
def test_half_of_the_pause_is_jitter_and_the_next_is_no_shorter(base, ceiling, failures):
    shortest = backoff_delay(base, ceiling, failures, lambda: 0.0)
    assert backoff_delay(base, ceiling, failures, lambda: 0.5) == pytest.approx(1.5 * shortest)
    assert shortest <= backoff_delay(base, ceiling, failures + 1, lambda: 0.0)


@given(jobs, outcomes, jitter)
def test_every_decision_is_a_move_that_a_running_job_may_make(job, outcome, random):
    decision = decide(job, outcome, NOW, lambda: random)
    state = move(JobState.RUNNING, decision.event)
    assert decision.event is not JobEvent.REVIVE
    assert not (decision.is_failure and decision.is_loss)
    if state is JobState.QUEUED:
        assert NOW <= decision.run_after <= NOW + max(job.spec.max_backoff, REFUSED_PAUSE)
    if state is JobState.FAILED:
        assert decision.reason


@given(jobs, jitter)
def test_success_is_success_and_spends_nothing(job, random):
    decision = decide(job, Outcome(Reason.EXIT, exit_code=0), NOW, lambda: random)
    assert decision.event is JobEvent.SUCCEED
    assert not decision.is_failure
    assert not decision.is_loss


@given(jobs, outcomes.filter(lambda outcome: not outcome.is_success), jitter)
def test_what_is_to_be_cancelled_is_never_tried_again(job, outcome, random):
    job = replace(job, cancel_requested=True)
    decision = decide(job, outcome, NOW, lambda: random)
    assert (decision.event, decision.reason) == (JobEvent.CANCEL, "cancelled")


@given(jobs, jitter, st.sampled_from([Reason.STOPPED, Reason.UNHEARD]))
def test_a_planned_stop_and_a_loss_before_it_began_spend_nothing_and_are_no_pause(
    job, random, reason
):
    job = replace(job, cancel_requested=False)
    decision = decide(job, Outcome(reason), NOW, lambda: random)
    assert (decision.is_failure, decision.is_loss) == (False, False)
    if job.spec.on_lost == "fail":  # it has begun, or may have, and may not begin again
        assert (decision.event, decision.reason) == (JobEvent.FAIL, "worker-lost")
    else:
        assert (decision.event, decision.run_after) == (JobEvent.RELEASE, NOW)


@given(jobs, jitter)
def test_a_refusal_spends_nothing_and_is_forgotten_soon(job, random):
    job = replace(job, cancel_requested=False)
    decision = decide(job, Outcome(Reason.REFUSED), NOW, lambda: random)
    assert decision.event is JobEvent.RELEASE
    assert (decision.is_failure, decision.is_loss) == (False, False)
    assert NOW <= decision.run_after <= NOW + REFUSED_PAUSE


@given(jobs, jitter)
def test_what_is_given_back_may_start_elsewhere_at_once(job, random):
    job = replace(job, cancel_requested=False)
    decision = decide(job, Outcome(Reason.GIVEN_BACK), NOW, lambda: random)
    assert (decision.event, decision.run_after) == (JobEvent.RELEASE, NOW)
    assert (decision.is_failure, decision.is_loss) == (False, False)


def life(job, outcomes, random=0.5):
    """The decisions about one outcome after the other, until the job has ended."""
    decisions = []
    for outcome in outcomes:
        decision = decide(job, outcome, NOW, lambda: random)
        decisions.append(decision)
        if move(JobState.RUNNING, decision.event).is_terminal:
            break
        job = replace(
            job,
            failures=job.failures + decision.is_failure,
            losses=job.losses + decision.is_loss,
        )
    return decisions


@given(st.integers(0, 6), st.lists(st.sampled_from(Reason).map(outcome_of), max_size=30))
def test_only_failures_spend_retries_and_only_losses_lead_to_quarantine(retries, ends):
    decisions = life(running(JobSpec(command="x", retries=retries)), ends)
    reasons = [outcome.reason for outcome in ends[: len(decisions)]]
    failures = sum(reason in FAILURES for reason in reasons)
    losses = sum(reason in LOSSES for reason in reasons)
    assert failures <= retries + 1
    assert losses <= MAX_LOSSES == 3
    is_over = failures == retries + 1 or losses == MAX_LOSSES
    assert is_over == any(decision.event is JobEvent.FAIL for decision in decisions)
    if losses == MAX_LOSSES:
        assert decisions[-1].reason == "quarantined"
    assert sum(decision.is_failure for decision in decisions) == failures
    assert sum(decision.is_loss for decision in decisions) == losses


@pytest.mark.parametrize("reason", [Reason.EXIT, Reason.WORKER_LOST])
@given(failures=st.integers(0, 9), losses=st.integers(0, 1))
def test_each_kind_is_paced_by_how_often_it_came_itself(reason, failures, losses):
    spec = JobSpec(command="x", retries=10, max_backoff=1e6)
    job = running(spec, failures=failures, losses=losses)
    times = losses if reason is Reason.WORKER_LOST else failures
    assert decide(job, Outcome(reason), NOW, lambda: 0.0).run_after == NOW + 2.0**times / 2


@given(st.lists(st.sampled_from(FAILURES).map(outcome_of), max_size=4), st.sampled_from(LOSSES))
def test_one_loss_is_the_end_where_that_was_asked_for(failures, loss):
    job = running(JobSpec(command="x", retries=9, on_lost="fail"))
    *_, last = life(job, [*failures, Outcome(loss)])
    assert (last.event, last.reason) == (JobEvent.FAIL, "worker-lost")


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome(Reason.EXIT, exit_code=2), "exit"),
        (Outcome(Reason.EXIT), "exit"),
        (Outcome(Reason.SIGNAL, signal="SIGSEGV"), "signal"),
        (Outcome(Reason.KILLED, signal="SIGTERM"), "signal"),
        (Outcome(Reason.TIMEOUT, signal="SIGTERM"), "timeout"),
        (Outcome(Reason.TIMEOUT, exit_code=0), "timeout"),
        (Outcome(Reason.SPAWN_ERROR, exit_code=127), "spawn-error"),
    ],
)
def test_the_reason_is_that_of_the_last_failure(outcome, reason):
    decision = decide(running(), outcome, NOW, lambda: 0.5)
    assert (decision.event, decision.reason) == (JobEvent.FAIL, reason)
