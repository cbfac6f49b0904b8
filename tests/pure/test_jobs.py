"""`JobSpec`: what is sent is a job or is refused by name; what is a job reaches a worker whole."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from queued_runner.jobs import (
    MAX_ARGS,
    MAX_COMMAND,
    MAX_STDIN,
    Base64,
    JobSpec,
    JobState,
    Limits,
    attempt_id,
    parse_attempt_id,
)
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.framing import Codec
from remote_runner.protocol.messages import Spawn, SpawnOptions
from remote_runner.protocol.states import ConnectionState, Role
from remote_runner.translation import spawn
from tests.pure.records import specs

FIELDS = sorted(JobSpec.model_fields)
JOB_ENV = {"JOB_ID": "1", "JOB_COOKIE": "c" * 64}
"""What the queue adds, and what wins over the job's own."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def refusals(body):
    """The fields that are refused, each by the first part of its place."""
    try:
        JobSpec.model_validate_json(json.dumps(body))
    except ValidationError as error:
        return {item["loc"][0] for item in error.errors()}
    return set()


@given(specs)
def test_a_job_survives_being_stored(spec):
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert JobSpec.model_validate_json(spec.model_dump_json(exclude_defaults=True)) == spec


def test_secrets_go_to_the_worker_and_into_no_repr():
    spec = JobSpec(command="x", env={"TOKEN": "hunter2"}, mask=["hunter2"])
    command = spec.to_command({}, Limits())
    message = spawn("1.1", command)
    assert message.options.mask == command.mask == ("hunter2",)
    assert "hunter2" not in f"{spec!r} {spec}"
    bare = spec.model_copy(update={"env": {}}).to_command({}, Limits())
    assert "hunter2" not in f"{bare!r} {spawn('1.1', bare)!r}"
    assert spec != spec.model_copy(update={"mask": ("hunter3",)})


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4))
def test_every_bad_field_is_named_and_no_good_one(body):
    bad = {name for name in body if refusals({"command": "x", name: body[name]})}
    assert refusals({"command": "x", **body}) == bad
    assert refusals(body) == bad | ({"command"} - set(body))


@given(st.text(max_size=9).filter(lambda name: name not in FIELDS), json_values)
def test_a_field_that_there_is_not_is_refused_by_name(name, value):
    assert refusals({"command": "x", name: value}) == {name}


@given(json_values.filter(lambda value: not isinstance(value, dict)))
def test_what_is_no_object_is_no_job(value):
    with pytest.raises(ValidationError):
        JobSpec.model_validate_json(json.dumps(value))


def spawned(spec, codec):
    """What a worker hears of a job."""
    runner, worker = Connection(Role.RUNNER, codec), Connection(Role.WORKER, codec)
    runner.state = worker.state = ConnectionState.READY
    command = spec.to_command(JOB_ENV, Limits())
    options = SpawnOptions(id="1.1", cwd=command.cwd, set_env=command.env, shell=command.shell)
    (heard,) = worker.receive_data(runner.send(Spawn(command.command, command.args, options)))
    return heard


@given(specs)
@pytest.mark.parametrize("codec", list(Codec))
def test_a_worker_hears_the_job_as_it_was_sent(codec, spec):
    heard = spawned(spec, codec)
    assert (heard.command, heard.args, heard.options.cwd) == (spec.command, spec.args, spec.cwd)
    assert heard.options.shell == spec.shell
    assert heard.options.set_env == {**spec.env, **JOB_ENV}


@pytest.mark.parametrize("letter", ["a", "é", "😀", "\x01", '"'])
@settings(max_examples=20)
@given(
    sizes=st.lists(st.sampled_from([0, 9000, 60_000, 131_070]), max_size=16),
    places=st.randoms(use_true_random=False),
)
def test_what_no_event_can_carry_is_refused(letter, sizes, places):
    body = {"command": "x", "args": [], "env": {}}
    for size in sizes:
        match places.choice(["command", "cwd", "args", "env"]):
            case "args":
                body["args"].append(letter * size)
            case "env":
                body["env"][str(len(body["env"]))] = letter * size
            case field:
                body[field] = "x" + letter * size
    try:
        spec = JobSpec.model_validate(body)
    except ValidationError as error:
        (refusal,) = error.errors()
        assert "put what is large in a file, or give it as stdin" in refusal["msg"]
        assert len(json.dumps(body, ensure_ascii=False).encode()) > MAX_COMMAND
    else:
        for codec in Codec:
            spawned(spec, codec)


@pytest.mark.parametrize("codec", list(Codec))
def test_as_many_arguments_as_there_may_be_reach_a_worker(codec):
    spec = JobSpec(command="x", args=("a",) * MAX_ARGS, env={str(n): "" for n in range(256)})
    assert len(spawned(spec, codec).args) == MAX_ARGS
    assert refusals({"command": "x", "args": ["a"] * (MAX_ARGS + 1)}) == {"args"}


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_limit_of_stdin_counts_bytes_in_either_form(more):
    data = bytes(MAX_STDIN + more)
    expected = {"stdin"} if more > 0 else set()
    assert refusals({"command": "x", "stdin": data.decode()}) == expected
    assert (
        refusals({"command": "x", "stdin": {"base64": base64.b64encode(data).decode()}}) == expected
    )


@given(st.binary(max_size=20))
def test_stdin_in_base64_is_its_bytes(data):
    spec = JobSpec(command="x", stdin=Base64(base64=base64.b64encode(data).decode()))
    assert spec.to_command({}, Limits()).stdin == data


def test_a_shell_is_one_or_none():
    assert refusals({"command": "x", "shell": ""}) == {"shell"}


@given(st.integers(1, 10**18 - 1), st.integers(1, 10**9 - 1))
def test_the_id_of_an_attempt_is_read_back(job_id, number):
    assert parse_attempt_id(attempt_id(job_id, number)) == (job_id, number)


@given(st.from_regex(r"[0-9]{1,20}\.[0-9]{1,11}", fullmatch=True) | st.text(max_size=9))
def test_an_attempt_has_one_id(text):
    found = parse_attempt_id(text)
    assert found is None or attempt_id(*found) == text


@pytest.mark.parametrize("state", list(JobState))
def test_what_has_not_ended_is_queued_or_running(state):
    assert state.is_terminal == (state not in (JobState.QUEUED, JobState.RUNNING))
