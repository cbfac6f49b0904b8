"""Chunks in any order, any number of times, are the output once and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.agents.chunks import MAX_AHEAD, Chunks, TooEarly, given_up_line
from queued_runner.agents.tasks import Report, attempt_of, run_id_of, task_id
from remote_runner.types import Reason


@given(st.integers(0, 40), st.integers(0, 1000), st.data())
def test_every_order_and_every_repeat_gives_each_chunk_once_in_order(count, first, data):
    order = data.draw(st.permutations(range(count)))
    repeats = data.draw(st.lists(st.sampled_from(order), max_size=20)) if count else []
    chunks = Chunks({"stdout": first})
    given_out = []
    for index in [*order, *repeats]:
        given_out += chunks.add("stdout", first + index, b"%d" % index)
        assert given_out == [b"%d" % n for n in range(len(given_out))]
    assert given_out == [b"%d" % n for n in range(count)]
    assert chunks.add("stderr", 0, b"e") == [b"e"]


@given(st.sets(st.integers(0, 60), min_size=1))
def test_what_never_comes_is_given_up_with_a_line_for_each(indexes):
    chunks = Chunks()
    given_out = []
    for index in sorted(indexes, reverse=True):
        given_out += chunks.add("stdout", index, b"%d" % index)
    while found := chunks.give_up("stdout"):
        given_out += found
    assert given_out == [
        b"%d" % index if index in indexes else given_up_line("stdout", index)
        for index in range(max(indexes) + 1)
    ]
    assert chunks.missing("stdout") is None
    assert not any(chunks.is_ahead("stdout", index) for index in indexes)


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(0, 1 << 50))
def test_where_nothing_is_kept_nothing_is_waited_for(indexes, far):
    chunks = Chunks()
    given_out = []
    for index in sorted(indexes, reverse=True):
        given_out += chunks.add("stdout", index, b"%d" % index)
    given_out += chunks.pass_over("stdout", far)
    assert sorted(map(int, given_out)) == sorted(indexes)
    after = max(far, max(indexes) + 1)
    assert chunks.add("stdout", after, b"x") == [b"x"]


def test_a_chunk_far_before_its_turn_is_refused_however_few_wait():
    chunks = Chunks()
    assert chunks.add("stdout", MAX_AHEAD, b"x") == []
    for index in (MAX_AHEAD + 1, 1 << 52):
        with pytest.raises(TooEarly, match="send chunk 0 first"):
            chunks.add("stdout", index, b"x")


@given(st.integers(1, (1 << 37) - 1), st.integers(1, (1 << 16) - 1))
def test_the_number_of_a_task_is_that_of_one_attempt(job, attempt):
    number = task_id(f"{job}.{attempt}")
    assert number is not None
    assert number < 1 << 53
    assert attempt_of(number) == (job, attempt)
    assert run_id_of(number) == f"{job}.{attempt}"


def test_an_attempt_beyond_all_numbers_has_none():
    assert task_id(f"{1 << 37}.1") is None
    assert task_id(f"1.{1 << 16}") is None
    assert task_id("run-1") is None


def test_what_an_agent_says_is_an_outcome():
    assert Report("succeeded").outcome(7, is_late=True).is_success
    failed = Report("failed").outcome(7, is_late=False)
    assert (failed.reason, failed.exit_code, failed.output_bytes) == (Reason.EXIT, 1, 7)
    assert Report("failed").outcome(0, is_late=True).reason is Reason.TIMEOUT
    own = Report("failed", Reason.EXIT, 3).outcome(0, is_late=True)
    assert (own.reason, own.exit_code) == (Reason.EXIT, 3)
    assert Report("failed", Reason.EXIT, 124).outcome(0, is_late=True).reason is Reason.TIMEOUT
    assert Report("failed", Reason.EXIT, 124).outcome(0, is_late=False).reason is Reason.EXIT
