"""What becomes of an index, a line, an object."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.json_objects import BadInput
from queued_runner.cli.series import MAX_LINE, numbered_lines, of_indices, of_lines, of_objects

MAKE = {"command": "make", "args": ["-j"], "env": {"A": "1"}, "needs": {"gpu": "1"}, "name": "n"}


def test_an_index_is_a_variable() -> None:
    origins = list(of_indices(MAKE, range(1, 10, 4)))
    assert [origin for origin, _ in origins] == ["index 1", "index 5", "index 9"]
    assert [job["env"] for _, job in origins] == [
        {"A": "1", "JOB_ARRAY_INDEX": str(index)} for index in (1, 5, 9)
    ]
    assert all({**job, "env": {"A": "1"}} == MAKE for _, job in origins)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["du", "-sh"], ["du", "-sh", "a b"]),
        (["cp", "{}", "/to/{}.bak", "x"], ["cp", "a b", "/to/a b.bak", "x"]),
        (["{}"], ["a b"]),
        (["make"], ["make", "a b"]),
    ],
)
def test_a_line_is_filled_in_or_appended(command: list[str], expected: list[str]) -> None:
    spec = {"command": command[0], "args": command[1:]}
    ((origin, job),) = of_lines(spec, [(3, "a b")])
    assert [job["command"], *job["args"]] == expected
    assert (origin, job["env"]) == ("line 3", {"JOB_ARRAY_INDEX": "0"})


@given(st.text(max_size=20))
def test_no_line_is_obeyed_by_a_shell(line: str) -> None:
    spec = {"command": "grep x {} | wc", "shell": True}
    ((_, job),) = of_lines(spec, [(1, line)])
    assert shlex.split(job["command"])[2:-2] == [line]
    ((_, job),) = of_lines({"command": "grep", "args": ["x"], "shell": True}, [(1, line)])
    assert shlex.split(" ".join([job["command"], *job["args"]])) == ["grep", "x", line]


def test_lines_end_as_they_end_and_empty_ones_are_none() -> None:
    raw = [b"\xef\xbb\xbfa\n", b"\n", b"\r\n", b" b\r\n", b"caf\xc3\xa9"]
    assert list(numbered_lines(raw)) == [(1, "a"), (4, " b"), (5, "café")]


@pytest.mark.parametrize("raw", [b"\xff\n", b"x" * (MAX_LINE + 1)])
def test_a_line_that_is_no_argument_is_refused_with_its_number(raw: bytes) -> None:
    with pytest.raises(BadInput, match="line 2"):
        list(numbered_lines([b"ok\n", raw]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, MAKE),
        ({"name": "m"}, {**MAKE, "name": "m"}),
        ({"args": ["x"]}, {**MAKE, "args": ["x"]}),
        ({"command": "ls"}, {k: v for k, v in {**MAKE, "command": "ls"}.items() if k != "args"}),
        ({"env": {"B": "2"}}, {**MAKE, "env": {"A": "1", "B": "2"}}),
        ({"env": {"A": "2"}, "needs": {}}, {**MAKE, "env": {"A": "2"}}),
        ({"env": 3}, {**MAKE, "env": 3}),  # the server says what is wrong with it
    ],
)
def test_options_are_what_an_object_leaves_out(given: dict, expected: dict) -> None:
    assert list(of_objects(MAKE, [(7, given)])) == [("line 7", expected)]
