"""Jobs of every kind, for properties of what is done with them."""

import base64
from dataclasses import replace

from hypothesis import strategies as st

from queued_runner.jobs import Base64, Job, JobSpec, JobState

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9)
names = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=9)
seconds = st.floats(0, 1e8)
specs = st.builds(
    JobSpec,
    command=texts.filter(bool),
    args=st.lists(texts, max_size=4).map(tuple),
    name=st.none() | names,
    group=st.none() | names,
    key=st.none() | names,
    cwd=st.none() | texts.filter(bool),
    env=st.dictionaries(texts.filter(lambda name: name and "=" not in name), texts, max_size=3),
    shell=st.booleans() | texts.filter(bool),
    stdin=st.none() | st.text(max_size=9) | st.binary(max_size=9).map(
        lambda data: Base64(base64=base64.b64encode(data).decode())
    ),
    priority=st.integers(-1_000_000, 1_000_000),
    timeout=st.none() | st.floats(0.001, 1e8),
    kill_signal=st.sampled_from(["SIGTERM", "SIGINT", "SIGUSR1", "SIGRTMIN+3"]),
    kill_grace=seconds,
    retries=st.integers(0, 1000),
    backoff=seconds,
    max_backoff=seconds,
    on_lost=st.sampled_from(["retry", "fail"]),
    detach=st.none() | st.floats(1, 1e8),
    needs=st.dictionaries(names, texts, max_size=3),
    after=st.lists(names | st.integers(1, (1 << 63) - 1), max_size=3).map(tuple),
    delay=seconds,
    max_log_size=st.none() | st.integers(0, 1 << 40),
    max_results_size=st.none() | st.integers(0, 1 << 40),
)  # fmt: skip


def running(spec=None, **fields):
    """A job in the middle of an attempt."""
    return replace(
        Job(
            id=1, spec=spec or JobSpec(command="x"), state=JobState.RUNNING, reason=None,
            exit_code=None, signal=None, attempt=1, worker="w", worker_id="w", worker_boot="b",
            created_at=0.0,
            run_after=0.0, started_at=0.0, finished_at=None, cancel_requested=False, failures=0,
            losses=0, log_bytes=0, log_dropped=0,
        ),
        **fields,
    )  # fmt: skip
