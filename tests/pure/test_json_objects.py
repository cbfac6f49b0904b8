"""Objects out of a text: in whatever pieces it comes, and with lines where it is wrong."""

import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli import json_objects
from queued_runner.cli.json_objects import BadInput, read_objects

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
objects = st.lists(st.dictionaries(st.text(max_size=6), values, max_size=4), max_size=6)


class Pieces:
    """A text that comes in pieces of other sizes than were asked for."""

    def __init__(self, text: str, size: int) -> None:
        self._file = io.StringIO(text)
        self._size = size

    def read(self, size: int) -> str:
        return self._file.read(self._size)


@given(objects, st.sampled_from(["lines", "array", "pretty"]), st.integers(1, 50), st.booleans())
def test_objects_come_back_in_whatever_pieces(
    given: list[dict], form: str, size: int, is_ascii: bool
) -> None:
    if form == "lines":
        text = "".join(json.dumps(item, ensure_ascii=is_ascii) + "\n" for item in given)
    elif form == "array":
        text = json.dumps(given, ensure_ascii=is_ascii)
    else:
        text = json.dumps(given, indent=2, ensure_ascii=is_ascii)
    found = list(read_objects(Pieces(text, size)))
    assert [item for _, item in found] == given
    if form == "lines":
        assert [line for line, _ in found] == list(range(1, len(given) + 1))


@given(st.text(max_size=30) | st.text('[]{}",:1ae\\u\n ', max_size=30), st.integers(1, 5))
def test_any_text_is_objects_or_a_refusal(text: str, size: int) -> None:
    try:
        for line, value in read_objects(Pieces(text, size)):
            assert line >= 1
            assert isinstance(value, dict)
    except BadInput as error:
        assert "line" in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}\n{"b" 2}\n', "line 2: this is not JSON: Expecting ':'"),
        ('{"a": 1}\n\n[1]', "line 3: '[' does not begin a job"),
        ('[{"a": 1} {"b": 2}]', "line 1: a comma is missing"),
        ('[{"a": 1},\n', "line 2: the text ends too early"),
        ('[{"a": 1},]', "']' does not begin a job"),
        ("[{}]\n{}", "line 2: something stands behind"),
        ("17", "a job is an object, as"),
        ('{"a": "\n"}', "line 1: this is not JSON: Invalid control character"),
        ('{"a": "', "line 1: this is not JSON: Unterminated"),
        ('{"a": ' + "[" * 100_000, "line 1: this is nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "line 1: "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        list(read_objects(io.StringIO(text)))
    assert words in str(caught.value)


def test_bytes_that_are_no_text_are_told() -> None:
    file = io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"a": "\xff"}'), "utf-8")
    with pytest.raises(BadInput, match="not UTF-8"):
        list(read_objects(file))


def test_a_slip_is_told_without_reading_on() -> None:
    """A pipe may stay open for long."""

    class Endless:
        read_so_far = 0

        def read(self, size: int) -> str:
            self.read_so_far += 1
            return '{"a" 1}\n' + '{"a": 1}\n' * 10

    source = Endless()
    with pytest.raises(BadInput, match="line 1"):
        next(read_objects(source))
    assert source.read_so_far == 1


def test_an_object_that_never_ends_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_objects, "LONGEST", 1 << 20)

    class Endless:
        begin = iter(['{"a": "'])

        def read(self, size: int) -> str:
            return next(self.begin, "x" * size)

    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="too large"):
            list(read_objects(Endless()))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
