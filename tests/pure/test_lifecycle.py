"""The table of a job's life: complete, closed, and final where it ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.jobs import JobState
from queued_runner.lifecycle import TRANSITIONS, IllegalMove, JobEvent, mermaid, move

STATES, EVENTS = list(JobState), list(JobEvent)
states, events = st.sampled_from(STATES), st.sampled_from(EVENTS)


def following(state):
    """Where each event that may happen leads."""
    found = {}
    for event in EVENTS:
        try:
            found[event] = move(state, event)
        except IllegalMove as error:
            assert str(error) == f"a {state} job cannot {event}"
    return found


@pytest.mark.parametrize("state", STATES)
def test_no_pair_slips_through_that_the_table_does_not_have(state):
    assert following(state) == TRANSITIONS[state]


@pytest.mark.parametrize("state", [state for state in STATES if state.is_terminal])
def test_only_a_person_leaves_an_end_and_only_for_the_queue(state):
    assert following(state) == {JobEvent.REVIVE: JobState.QUEUED}


@pytest.mark.parametrize("state", [state for state in STATES if not state.is_terminal])
def test_what_has_not_ended_can_be_cancelled_and_not_revived(state):
    assert following(state)[JobEvent.CANCEL] is JobState.CANCELLED
    assert JobEvent.REVIVE not in following(state)


def test_every_state_is_reached_and_every_event_is_of_use():
    reached, new = set(), {JobState.QUEUED}
    while new:
        reached |= new
        new = {target for state in new for target in following(state).values()} - reached
    assert reached == set(STATES)
    assert {event for state in STATES for event in following(state)} == set(EVENTS)


@given(st.lists(events))
def test_a_life_is_attempts_between_a_submit_and_one_end(life):
    state, began, ended = JobState.QUEUED, 0, 0
    for event in life:
        before = state
        try:
            state = move(state, event)
        except IllegalMove:
            continue
        began += event is JobEvent.CLAIM
        ended += before is JobState.RUNNING
        if before.is_terminal:
            assert event is JobEvent.REVIVE
        if before is JobState.QUEUED:
            assert event in (JobEvent.CLAIM, JobEvent.CANCEL, JobEvent.STRAND)
        assert began - ended == (state is JobState.RUNNING)


@given(states, events)
def test_the_diagram_shows_what_may_happen_and_nothing_else(state, event):
    shown = {}
    for line in mermaid().splitlines()[2:]:
        source, _, rest = line.strip().partition(" --> ")
        target, _, labels = rest.partition(": ")
        shown |= {(source, label): target for label in labels.split(", ")}
    assert shown.get((state, event)) == TRANSITIONS[state].get(event)
