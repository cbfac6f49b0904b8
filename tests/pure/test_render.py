"""Records as JSON, and what is wrong with a request as a sentence."""

import json
from base64 import b64encode
from dataclasses import replace
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.explain import Explanation, Fit
from queued_runner.hiding import MAX_SEARCHED
from queued_runner.http.problem import field_name, validation_problem
from queued_runner.http.render import (
    json_response,
    render_attempt,
    render_explanation,
    render_job,
    rfc3339,
)
from queued_runner.jobs import Attempt, Base64, JobSpec, JobState
from queued_runner.refusals import MAX_ERRORS
from tests.pure.records import running, specs

times = st.floats(0, 4e9)


@given(times)
def test_a_time_is_in_utc_and_exact_to_the_millisecond(seconds):
    text = rfc3339(seconds)
    assert text.endswith("Z")
    assert abs(datetime.fromisoformat(text).timestamp() - seconds) <= 0.001


SECRET = 'hunter2 "and" more'


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "args": st.just([f"--token={SECRET}", b64encode(SECRET.encode()).decode(), "plain"]),
            "cwd": st.just(f"/{SECRET}"),
            "env": st.just({"TOKEN": SECRET, "OTHER": "plain", SECRET: "x"}),
            "stdin": st.sampled_from([SECRET, Base64(base64=b64encode(SECRET.encode()).decode())]),
            "shell": st.just(f"/bin/{SECRET}"),
            "name": st.just(SECRET),
            "group": st.just(SECRET),
            "key": st.just(SECRET),
            "needs": st.just({"user": SECRET}),
        },
    )
)
def test_no_secret_of_a_job_is_shown(fields):
    spec = JobSpec(command=f"echo {SECRET} done", mask=[SECRET, "another"], **fields)
    job = replace(running(spec), state=JobState.QUEUED)
    shown = render_job(job, f"no connected worker has the labels user={SECRET}")
    text = json_response(shown).body.decode()
    assert "hunter2" not in text
    assert b64encode(SECRET.encode())[:-4].decode() not in text
    assert shown["mask"] == ["***", "***"]
    assert shown["command"] == "echo *** done"
    assert shown["pending_reason"].endswith("user=***")
    assert [text for text in shown["args"] if "plain" in text] == ["plain"] * ("args" in fields)
    assert (shown["id"], shown["state"], shown["priority"]) == (job.id, "queued", 0)


def test_no_sentence_about_a_job_shows_its_secrets():
    spec = JobSpec(command="x", needs={"zone": SECRET}, mask=[SECRET])
    fit = Fit("id", "worker", False, f"it lacks zone={SECRET}")
    reason = f"no connected worker has the labels zone={SECRET}"
    shown = render_explanation(Explanation(running(spec), reason, workers=(fit,)))
    assert shown["reason"] == "no connected worker has the labels zone=***"
    assert shown["workers"] == [
        {"id": "id", "name": "worker", "fits": False, "why": "it lacks zone=***"}
    ]


def test_the_names_of_fields_are_no_secrets():
    spec = JobSpec(command="run command", mask=["command"])
    assert render_job(running(spec))["command"] == "run ***"


def test_what_takes_long_to_search_is_hidden_whole():
    spec = JobSpec(command="x", stdin="hunter2" + "x" * MAX_SEARCHED, mask=["hunter2"])
    assert render_job(running(spec))["stdin"] == "***"
    bare = spec.model_copy(update={"mask": ()})
    assert render_job(running(bare))["stdin"] == spec.stdin


def test_no_time_is_none():
    assert rfc3339(None) is None


@given(specs, st.sampled_from(JobState), times, st.none() | times)
def test_what_was_sent_comes_back_with_what_became_of_it(spec, state, started, ended):
    job = replace(running(spec), state=state, started_at=started, finished_at=ended, after=(3, 4))
    shown = json.loads(json_response(render_job(job, "no worker")).body)
    sent = {name: shown[name] for name in JobSpec.model_fields}
    assert JobSpec.model_validate(sent) == spec.model_copy(update={"after": (3, 4)})
    assert (shown["id"], shown["state"]) == (job.id, state)
    assert shown["pending_reason"] == ("no worker" if state is JobState.QUEUED else None)
    if ended is None:
        assert shown["duration"] is None
    else:
        assert shown["duration"] >= 0


def test_an_attempt_is_shown_whole():
    attempt = Attempt(7, 2, "w", 1.0, None, "exit", 3, None, 0.5, 1024, 0.25, 10, 0)
    shown = render_attempt(attempt)
    assert (shown["job_id"], shown["attempt"], shown["finished_at"]) == (7, 2, None)
    assert (shown["duration"], shown["max_rss"], shown["cpu_time"]) == (0.5, 1024, 0.25)


keys = st.text(st.characters(categories=["L"]), min_size=1, max_size=9)
locations = st.lists(st.integers(0, 99) | keys, max_size=4)


@given(locations)
def test_a_place_in_a_body_is_written_as_one_would_reach_it(location):
    name = field_name(location)
    if not location:
        assert name == "body"
        return
    parts = name.replace("[", ".[").removeprefix(".").split(".")
    assert parts == [f"[{part}]" if isinstance(part, int) else part for part in location]


errors = st.lists(
    st.builds(
        lambda loc, kind, msg: {"loc": loc, "type": kind, "msg": msg, "input": "secret"},
        locations.filter(bool),
        st.sampled_from(["missing", "extra_forbidden", "value_error"]),
        st.just("Value error, it is not so"),
    ),
    min_size=1,
    max_size=2 * MAX_ERRORS,
)


@given(errors)
def test_every_error_is_counted_the_first_are_named_and_no_value_is_shown(found):
    body = json.loads(validation_problem(found, JobSpec.model_fields).body)
    names = [field_name(error["loc"]) for error in found]
    assert body["status"] == 422
    assert [error["field"] for error in body["errors"]] == names[:MAX_ERRORS]
    assert body["detail"].startswith(f"{names[0]}: ")
    if len(found) > MAX_ERRORS:
        assert f"and {len(found) - 1} more errors" in body["detail"]
    else:
        assert all(name in body["detail"] for name in names)
    assert "secret" not in json.dumps(body)
