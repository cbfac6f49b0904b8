"""What is wrong with a job is said in words, with the name of the field as it was sent."""

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from queued_runner.jobs import JobSpec
from queued_runner.refusals import MAX_ERRORS, Guesses

NUL = "it may not contain a NUL character"
CASES = [
    ({"command": "a\0"}, "command", NUL),
    ({"command": ""}, "command", "it may not be empty"),
    ({"args": ["a", "\0"]}, "args[1]", NUL),
    ({"args": ["a"] * 1025}, "args", "at most 1024 entries are allowed"),
    ({"args": "abc"}, "args", "it must be a list"),
    ({"args": [1]}, "args[0]", "it must be text"),
    ({"name": "a\n"}, "name", "it may not contain control characters"),
    ({"name": "x" * 257}, "name", "it may have at most 256 characters"),
    ({"env": {"A": "\0"}}, "env.A", NUL),
    ({"env": {"A\0": ""}}, "env", f"a name in it is not allowed: {NUL}"),
    ({"env": {"A=": ""}}, "env", "'A=' is not the name of a variable"),
    ({"env": []}, "env", "it must be an object of names and values"),
    ({"needs": {"": "x"}}, "needs", "a name in it is not allowed: it may not be empty"),
    ({"needs": {str(n): "" for n in range(33)}}, "needs", "at most 32 entries are allowed"),
    ({"stdin": 1}, "stdin", "it must be text or an object {'base64': TEXT}"),
    ({"stdin": {"base64": 1}}, "stdin.base64", "it must be text"),
    ({"stdin": {"text": "x"}}, "stdin", "it must be text or an object {'base64': TEXT}"),
    ({"stdin": {"base64": "?"}}, "stdin.base64", "not base64: "),
    ({"shell": 1.5}, "shell", "it must be true, false or the path of a shell"),
    ({"shell": ""}, "shell", "it must be true, false or the path of a shell"),
    ({"priority": "high"}, "priority", "it must be a whole number"),
    ({"priority": 1.5}, "priority", "it must be a whole number"),
    ({"timeout": "soon"}, "timeout", "it must be a number"),
    ({"timeout": 0}, "timeout", "it must be greater than 0"),
    ({"retries": -1}, "retries", "it must be greater than or equal to 0"),
    ({"on_lost": "RETRY"}, "on_lost", "it must be 'retry' or 'fail'"),
    ({"kill_signal": "TERM"}, "kill_signal", "'TERM' is not a signal; write SIGTERM"),
    ({"mask": ["abc", "hu"]}, "mask[1]", "a secret of less than 3 bytes cannot be hidden"),
    ({"mask": ["x" * 16_385]}, "mask", "the secrets have 16,384 bytes together at most"),
    ({"mask": ["x" * 300] * 65}, "mask", "at most 64 entries are allowed"),
    ({"prioritty": 1}, "prioritty", "there is no such field; did you mean 'priority'?"),
]


def place(error):
    """The field of an error, as a person would write it."""
    first, *rest = error["loc"]
    return first + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize(
    ("body", "field", "words"), CASES, ids=[str(body)[:30] for body, _, _ in CASES]
)
def test_every_refusal_is_in_words(body, field, words, is_json):
    body = {"command": "true", **body}
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate_json(json.dumps(body)) if is_json else JobSpec(**body)
    (error,) = caught.value.errors()
    assert place(error) == field
    assert error["msg"].startswith(words)
    assert "errors.pydantic.dev" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"mask": ["hunter2", "x"]},
        {"mask": ["hunter2"], "shell": 1.5},
        {"mask": ["hunter2\0"]},
        {"mask": "hunter2"},
        {"env": {"A": "hunter2\0"}},
        {"env": {"A": "hunter2"}, "args": ["x" * 131_072] * 9},
        {"stdin": {"text": "hunter2"}},
    ],
)
def test_no_value_is_in_a_refusal(body):
    with pytest.raises(ValidationError) as caught:
        JobSpec(**{"command": "true", **body})
    assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.errors()}"
    assert "hunter2" not in caught.value.json()


def test_a_field_that_is_missing():
    with pytest.raises(ValidationError, match="this field is required"):
        JobSpec()


def test_slips_are_guessed_at_as_often_as_they_are_shown(monkeypatch):
    """A list of jobs may hold a million: each guess compares a name with every field."""
    guessed = []
    monkeypatch.setattr("difflib.get_close_matches", lambda *args: guessed.append(args) or [])
    body = json.dumps([{"command": "x", f"a{n}": 1, f"b{n}": 1} for n in range(100)])
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[JobSpec]).validate_json(body, context=Guesses())
    assert caught.value.error_count() == 200
    assert len(guessed) == MAX_ERRORS
