"""Ranges of numbers, from text and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.numbers import MAX_NUMBERS, Runs, each_number, parse_numbers

parts = st.tuples(st.integers(0, 10**17), st.integers(0, 40), st.integers(1, 5))


@given(st.lists(parts, min_size=1, max_size=6))
def test_ranges_are_their_numbers_once_in_order(given: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}:{step}" for first, more, step in given)
    expected = [n for first, more, step in given for n in range(first, first + more + 1, step)]
    ranges = parse_numbers(text)
    assert ranges is not None
    assert list(each_number(ranges)) == list(dict.fromkeys(expected))


@given(st.lists(st.integers(1, 30), max_size=60))
def test_runs_are_written_as_they_are_read(numbers: list[int]) -> None:
    runs = Runs()
    runs.extend(numbers)
    assert list(runs) == numbers
    assert bool(runs) is bool(numbers)
    if numbers:
        ranges = parse_numbers(str(runs))
        assert ranges is not None
        assert [n for part in ranges for n in part] == numbers


def test_numbers_that_follow_are_one_run() -> None:
    runs = Runs()
    runs.extend(range(17, 10_017))
    runs.extend((10_020, 10_021, 3))
    assert str(runs) == "17-10016,10020-10021,3"


def test_too_many_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="more than"):
        parse_numbers(f"0-{MAX_NUMBERS}")
    assert parse_numbers(f"0-{10 * MAX_NUMBERS}:100") is not None


@given(st.text("0123456789-:, x", max_size=12))
def test_any_text_is_ranges_or_none_or_an_error(text: str) -> None:
    try:
        ranges = parse_numbers(text)
    except ValueError:
        return
    assert ranges is None or all(len(part) for part in ranges)
