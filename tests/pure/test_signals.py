"""Signals: each has one name, its name means it, and no other text does."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runner.signals import signal_name, signal_number

NUMBERS = range(1, signal.SIGRTMAX + 1)
numbers = st.sampled_from(NUMBERS)


@given(numbers)
def test_the_name_of_a_signal_means_it(number):
    assert signal_number(signal_name(number)) == number


def test_no_two_signals_share_a_name():
    assert len({signal_name(number) for number in NUMBERS}) == len(NUMBERS)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN, "SIGRTMIN"), (signal.SIGRTMAX, "SIGRTMAX"),
        (signal.SIGRTMIN + 6, "SIGRTMIN+6"), (signal.SIGRTMIN - 1, "SIGRTMIN-1"),
    ],
)  # fmt: skip
def test_names_are_those_of_the_system(number, name):
    assert signal_name(number) == name


@pytest.mark.parametrize("name", list(signal.Signals.__members__))
def test_second_names_are_understood(name):
    assert signal_number(name) == signal.Signals[name].value


@given(st.text(max_size=9) | st.from_regex(r"SIG(RTMIN[+-][0-9]{0,3}|[A-Z]{0,5})", fullmatch=True))
def test_any_text_is_a_signal_or_none(text):
    assert signal_number(text) in {None, *NUMBERS}


@pytest.mark.parametrize(
    "name", ["", "9", "kill", "SIG_DFL", "SIGRTMIN+x", "SIGRTMIN+999", "SIGRTMIN+٣"]
)
def test_what_names_none(name):
    assert signal_number(name) is None
