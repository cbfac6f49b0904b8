"""The head of a stream of results: what is written is read, and nothing else is believed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runner.results import (
    MAX_FILES,
    MAX_HEAD,
    MAX_TOLD,
    BadHead,
    Head,
    LeftOut,
    ResultFile,
    encode_head,
    name_problem,
    parse_head,
    shown,
)

parts = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20).filter(
    lambda part: "/" not in part and part not in (".", "..")
)
names = st.lists(parts, min_size=1, max_size=3).map("/".join)


@st.composite
def heads(draw):
    unique = draw(st.lists(names, max_size=8, unique=True))
    folders = {name[:at] for name in unique for at, c in enumerate(name) if c == "/"}
    files = tuple(
        ResultFile(name, draw(st.integers(0, 1 << 50))) for name in unique if name not in folders
    )
    left_out = tuple(
        LeftOut(shown(name), why)
        for name, why in draw(st.lists(st.tuples(st.text(), st.just("it is a link")), max_size=4))
    )
    return Head(files, left_out, len(left_out) + draw(st.integers(0, 9)))


@given(heads())
def test_what_is_written_is_read(head):
    line = encode_head(head)
    assert line.index(b"\n") == len(line) - 1
    assert parse_head(line) == head


@given(heads())
def test_files_lie_one_behind_the_other(head):
    end = 0
    for file in head.files:
        assert head.offset_of(file.name) == (end, file.size)
        end += file.size
    assert end == head.size
    assert head.offset_of("no such file/") is None


@given(st.text())
def test_a_good_name_stays_below_its_folder(name):
    if name_problem(name) is None:
        assert not name.startswith("/")
        assert not {"", ".", ".."} & set(name.split("/"))
        assert name.isprintable()
        assert len(name.encode()) <= 1024


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a/./b", "a\nb", "\x1b[2J", "a\0",
        "\udcff", "x" * 256, "/".join(["x" * 200] * 6), "\u202efdp.exe", "a\u2028b",
    ],
)  # fmt: skip
def test_bad_names_are_told(name):
    assert name_problem(name) is not None
    line = json.dumps({"files": [[name, 1]]}).encode()
    with pytest.raises(BadHead):
        parse_head(line)


@pytest.mark.parametrize(
    "name", ["junit.xml", "a/b/c", "ä €.txt", "😀", "-rf", "a b", "...", "a\\b", "x" * 255]
)
def test_good_names_are_taken(name):
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "value",
    [
        None, [], 1, {"files": None}, {"files": [1]}, {"files": [["a"]]}, {"files": [["a", 1, 2]]},
        {"files": [["a", "1"]]}, {"files": [["a", True]]}, {"files": [["a", -1]]},
        {"files": [["a", 1 << 60]]}, {"files": [["a", 1], ["a", 1]]}, {"files": [["a", 1.5]]},
        {"files": [["a", 1], ["a/b", 1]]}, {"files": [["a/b", 1], ["a", 1]]},
        {"files": [[str(n), 0] for n in range(MAX_FILES + 1)]}, {"files": {"a": 1}},
        {"left_out": [["a", 1]]}, {"left_out": [["a", "b"]] * (MAX_TOLD + 1)},
        {"left_out": [["a", "b"]], "left_out_count": 0}, {"left_out_count": "3"},
        {"left_out_count": -1},
    ],
)  # fmt: skip
def test_other_heads_are_refused(value):
    with pytest.raises(BadHead):
        parse_head(json.dumps(value).encode())


@pytest.mark.parametrize("line", [b"", b"\n", b"\0" * 100, b"[" * 100_000, b"\xff{}", b"{"])
def test_what_is_no_json_is_refused(line):
    with pytest.raises(BadHead):
        parse_head(line)


def test_a_long_head_is_refused():
    with pytest.raises(BadHead):
        parse_head(b" " * MAX_HEAD + b"{}")


def test_what_a_worker_says_of_a_name_cannot_steer_a_terminal():
    head = parse_head(json.dumps({"left_out": [["\x1b[2J\n", "\x07" * 300]]}).encode())
    (item,) = head.left_out
    assert item.name.isprintable()
    assert item.why.isprintable()
    assert len(item.why) <= 200


def test_a_head_may_be_as_short_as_can_be():
    assert parse_head(b'{"files":[["a",3]]}\n') == Head((ResultFile("a", 3),))
