"""Selectors: what each names, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.selectors import MAX_IDS, Selector, parse_selector

ranges = st.tuples(st.integers(1, 10**17), st.integers(0, 50))


@given(st.lists(ranges, min_size=1, max_size=8))
def test_ids_and_ranges_name_their_jobs_once_in_order(parts: list[tuple[int, int]]) -> None:
    text = ",".join(str(first) if not more else f"{first}-{first + more}" for first, more in parts)
    named = [job_id for first, more in parts for job_id in range(first, first + more + 1)]
    selector = parse_selector(text)
    assert selector.ids == tuple(dict.fromkeys(named))
    assert selector.is_single == (len(set(named)) == 1)


def test_words_are_left_to_the_server() -> None:
    assert parse_selector("last") == Selector(word="last")
    assert parse_selector("all") == Selector(word="all")
    assert parse_selector("last").is_single
    assert not parse_selector("all").is_single


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "write 17"), ("x", "write 17"), ("0", "write 17"), ("-3", "write 17"),
        ("3,", "write 17"), ("3-", "write 17"), ("3,last", "write 17"), ("1.5", "write 17"),
        ("٣", "write 17"), ("1" * 19, "write 17"), ("8-5", "write 5-8"),
        (f"1-{MAX_IDS + 1}", "--group"), (f"5,1-{MAX_IDS}", "--group"), ("1-3:0", "write 17"),
        ("3:2", "write 17"), ("0-3", "write 17"),
        ("1-999999999999999999", "--group"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_an_example(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match="write") as caught:
        parse_selector(text)
    assert hint in str(caught.value)


def test_the_longest_range_is_taken() -> None:
    assert len(parse_selector(f"1-{MAX_IDS}").ids) == MAX_IDS


@given(st.text(max_size=20))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    try:
        selector = parse_selector(text)
    except ValueError:
        return
    assert bool(selector.ids) != bool(selector.word)
