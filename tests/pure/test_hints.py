"""The form of hints: what is sent is heard, in bounded messages; rubbish is not."""

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.hints import MAX_TEXT, MAX_WAITING, Hint, Kind, Waiting, read_message

HINTS = st.builds(Hint, st.sampled_from(Kind), st.integers(0, 2**63 - 1))


@given(st.lists(HINTS, max_size=1500))
def test_what_is_sent_is_heard_once_and_in_order(hints):
    waiting = Waiting()
    for hint in hints:
        waiting.add(hint)
    messages = waiting.take("server-1")
    assert not waiting
    assert all(len(message) <= MAX_TEXT for message in messages)
    heard = [read_message(message) for message in messages]
    assert {sender for sender, _ in heard} <= {"server-1"}
    assert [hint for _, some in heard for hint in some] == list(dict.fromkeys(hints))


def test_more_than_can_be_told_is_told_as_that():
    waiting = Waiting()
    for job in range(MAX_WAITING + 1):
        waiting.add(Hint(Kind.JOB, job))
    assert waiting.take("s") == ["s x0"]


@given(st.text())
def test_rubbish_is_passed_over(text):
    _, hints = read_message(text)
    assert all(hint.kind in Kind and hint.job >= 0 for hint in hints)
    assert read_message("s j1 q2 j jx j٣ g" + "9" * 20 + " w0") == (
        "s", [Hint(Kind.JOB, 1), Hint(Kind.WORK)]
    )  # fmt: skip
