"""Durations, sizes, signals and origins: every spelling that is understood, and none else."""

import math
import signal

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.values import KEEPING, parse_duration, parse_origin, parse_signal
from remote_runner.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172_800),
        ("0", 0), ("1.5", 1.5), (" 5s ", 5), ("1m0.5s", 60.5),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.tuples(*[st.integers(0, 999)] * 5))
def test_a_duration_is_the_sum_of_its_parts(parts: tuple[int, ...]) -> None:
    days, hours, minutes, seconds, thousandths = parts
    text = f"{days}d{hours}h{minutes}m{seconds}s{thousandths}ms"
    whole = days * 86_400 + hours * 3600 + minutes * 60 + seconds + thousandths / 1000
    assert parse_duration(text) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000), ("64KiB", 65_536), ("64K", 65_536), ("64KB", 64_000), ("1.5G", 3 << 29),
        ("1GiB", 1 << 30), ("2tb", 2 * 10**12), ("7B", 7), ("1 MiB", 1 << 20), ("0", 0),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.sampled_from(list(signal.Signals)), st.booleans(), st.booleans())
def test_signals_by_name_and_number(item: signal.Signals, is_short: bool, is_lower: bool) -> None:
    name = item.name.removeprefix("SIG") if is_short else item.name
    assert parse_signal(name.lower() if is_lower else name) == item.name
    assert signal.Signals[parse_signal(str(item.value))] is item


@pytest.mark.parametrize(
    ("text", "name"),
    [("40", "SIGRTMIN+6"), ("sigrtmin+6", "SIGRTMIN+6"), ("rtmin", "SIGRTMIN")],
)
def test_real_time_signals(text: str, name: str) -> None:
    assert parse_signal(text) == name


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://ci.example", "https://ci.example"),
        ("HTTPS://CI.Example:443/", "https://ci.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://ci.example:443", "http://ci.example:443"),
    ],
)
def test_origins(text: str, origin: str) -> None:
    assert parse_origin(text) == origin
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    ["*", "null", "ci.example", "https://*.example", "https://a/b", "https://u@a", "ftp://a"],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        parse_origin(text)


@pytest.mark.parametrize("parse", [parse_duration, parse_size, parse_signal, parse_origin])
@given(text=st.text(max_size=12) | st.from_regex(r"[0-9.smhdKMGTiB\- ]{1,8}", fullmatch=True))
def test_anything_else_is_refused_with_an_example(parse, text: str) -> None:
    try:
        assert parse(text) is not None
    except ValueError as error:
        assert repr(text.strip()) in str(error) or repr(text) in str(error)
        assert "write " in str(error)


@pytest.mark.parametrize("text", ["", "-1", "1x", "m", "1h 30m", "nan", "inf", "1e3", "٣"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000.0), ("never", math.inf), ("NEVER", math.inf)]
)
def test_how_long_something_is_kept(text: str, seconds: float) -> None:
    assert KEEPING.convert(text, None, None) == seconds


@pytest.mark.parametrize(("text", "words"), [("0", "both"), ("0s", "both"), ("soon", "or never")])
def test_no_time_is_neither_at_once_nor_never(text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        KEEPING.convert(text, None, None)
