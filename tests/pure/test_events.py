"""The ring of events: whatever its size, a follower sees each event once and in order, or a gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.events import Events, Gap, Place, parse_place
from remote_runner.types import WorkerEvent, WorkerInfo


def ring(size: int = 10, told: int = 0) -> Events:
    events = Events("b", lambda: 1.0, size)
    for _ in range(told):
        events.tell_new(1, None, None)
    return events


@given(
    st.integers(1, 8),
    st.lists(st.one_of(st.just("tell"), st.integers(1, 5)), max_size=60),
    st.integers(0, 30),
)
def test_every_event_is_read_once_or_counted_as_missed(
    size: int, steps: list[str | int], before: int
) -> None:
    events = ring(size, before)
    place, gap = events.begin(None)
    assert gap is None
    position = told = before
    position = place.number
    assert position == max(0, before - size)
    for step in [*steps, 100]:
        if isinstance(step, str):
            events.tell_new(1, None, None)
            told += 1
            continue
        place, gap, found = events.read(place, step)
        missed = 0 if gap is None else gap.missed
        assert missed is not None
        assert (gap is None) == (missed == 0)
        numbers = [event.number for event in found]
        first = position + missed + 1
        assert numbers == list(range(first, min(told, first + step - 1) + 1))
        assert missed == max(0, told - size - position)
        position = place.number
        assert position == (numbers[-1] if numbers else position)
    assert position == told or len(steps) == 0 or told - position <= size


@pytest.mark.parametrize(
    ("seen", "begins", "gap"),
    [
        (None, 5, None),
        (Place("b", 15), 15, None),
        (Place("b", 9), 9, None),
        (Place("b", 5), 5, None),
        (Place("b", 4), 5, Gap(1)),
        (Place("b", 0), 5, Gap(5)),
        (Place("b", 16), 5, Gap(None)),
        (Place("other", 9), 5, Gap(None)),
    ],
)
def test_where_a_follower_begins(seen: Place | None, begins: int, gap: Gap | None) -> None:
    assert ring(10, 15).begin(seen) == (Place("b", begins), gap)


@given(st.from_regex(r"[0-9a-z]{1,32}", fullmatch=True), st.integers(0, 10**15 - 1))
def test_places_are_read_back(boot: str, number: int) -> None:
    assert parse_place(str(Place(boot, number))) == Place(boot, number)


@given(st.text(max_size=20))
def test_no_text_makes_a_place_fail(text: str) -> None:
    place = parse_place(text)
    assert place is None or place.number >= 0


@pytest.mark.parametrize(
    "text", ["", "-", "b-", "-1", "b-x", "b--1", "b-٣", "ü-1", "b-" + "9" * 16]
)
def test_what_is_no_place(text: str) -> None:
    assert parse_place(text) is None


def test_a_long_name_of_a_worker_is_cut() -> None:
    events = ring()
    worker = WorkerInfo("w", "x" * 5000, "ready", 1, 1, {}, "", "")
    events.tell_worker(WorkerEvent.JOINED, worker)
    assert events.read(events.begin(None)[0], 1)[2][0].facts["worker"] == "x" * 256
