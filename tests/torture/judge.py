"""What torture compares in the end, and what counts as a violation. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from tests.torture.job import KINDS, pattern

Sort = Literal["lost", "doubled", "differs", "left", "wrong"]
LOSSES: Final = frozenset(("worker-lost", "abandoned"))
UNCOUNTED: Final = frozenset(("unheard",))
"""Losses that count for nothing; the attempt may have begun."""
NEVER_BEGUN: Final = frozenset(("refused", "given-back"))
STREAMS: Final = ("stdout", "stderr")


class Violation(NamedTuple):
    """A broken promise, and in which way."""

    sort: Sort
    text: str


class WitnessLine(NamedTuple):
    """A line of the witness: a job `begins`, or `overlaps` with another attempt of itself."""

    word: str
    job: int
    attempt: int
    pid: int


class AttemptRecord(NamedTuple):
    """An attempt as the database has it; times are UNIX seconds."""

    job: int
    number: int
    worker: str | None
    started_at: float
    finished_at: float | None
    reason: str | None
    exit_code: int | None
    log_bytes: int


class JobRecord(NamedTuple):
    """A job as the API shows it."""

    id: int
    state: str
    reason: str | None
    attempt: int


@dataclass
class Evidence:
    """All that is known in the end. `submitted`: the kind of every job that was acknowledged."""

    submitted: dict[int, str]
    jobs: dict[int, JobRecord]
    attempts: list[AttemptRecord]
    witness: list[WitnessLine]
    output: dict[tuple[int, int], Mapping[str, bytes]]
    may_lose: Callable[[AttemptRecord], bool] = field(default=lambda attempt: False)
    """Whether something happened that excuses the loss of this attempt."""
    cancelled: Collection[int] = ()
    """Jobs that had not ended when a cancel of them was acknowledged."""
    followed: Mapping[tuple[int, int], Mapping[str, bytes]] = field(default_factory=dict)
    """Output of attempts as somebody saw it who followed it to its end."""


def read_witness(text: str) -> list[WitnessLine]:
    """The lines of a witness file."""
    rows = (line.split() for line in text.splitlines())
    return [WitnessLine(word, *map(int, numbers)) for word, *numbers in rows]


def judge(evidence: Evidence) -> list[Violation]:
    """Every broken promise."""
    known = {(attempt.job, attempt.number): attempt for attempt in evidence.attempts}
    begun = Counter((line.job, line.attempt) for line in evidence.witness if line.word == "begins")
    return [
        *_judge_jobs(evidence),
        *_judge_starts(evidence.witness, known, begun),
        *_judge_followed(evidence),
        *(
            violation
            for key, attempt in sorted(known.items())
            if attempt.job in evidence.submitted
            for violation in _judge_attempt(attempt, key in begun, evidence)
        ),
    ]


def _judge_jobs(evidence: Evidence) -> Iterable[Violation]:
    losses = Counter(attempt.job for attempt in evidence.attempts if attempt.reason in LOSSES)
    for job_id, kind in evidence.submitted.items():
        job = evidence.jobs.get(job_id)
        if job is None:
            yield Violation("lost", f"job {job_id} ({kind}) was acknowledged and is not there")
        elif job.state == "failed" and job.reason == "quarantined" and losses[job_id] >= 3:
            continue
        elif job.state != ("cancelled" if job_id in evidence.cancelled else "succeeded"):
            why = f"{job.state} ({job.reason}) in attempt {job.attempt}"
            yield Violation("lost", f"job {job_id} ({kind}) is {why}")
    for job_id in sorted(evidence.jobs.keys() - evidence.submitted.keys()):
        yield Violation("doubled", f"job {job_id} is there and nobody was told of it")


def _judge_followed(evidence: Evidence) -> Iterable[Violation]:
    for (job, attempt), streams in sorted(evidence.followed.items()):
        stored = evidence.output.get((job, attempt), {})
        for stream in STREAMS:
            found, whole = streams.get(stream, b""), stored.get(stream, b"")
            if found != whole:
                name = f"attempt {job}.{attempt} as it was followed"
                yield Violation("differs", f"{name}, {stream}: {_difference(found, whole)}")


def _judge_starts(
    witness: Iterable[WitnessLine],
    known: Mapping[tuple[int, int], AttemptRecord],
    begun: Mapping[tuple[int, int], int],
) -> Iterable[Violation]:
    for (job, attempt), count in sorted(begun.items()):
        record = known.get((job, attempt))
        if count > 1:
            yield Violation("doubled", f"attempt {job}.{attempt} began {count} times")
        if record is None:
            yield Violation("wrong", f"attempt {job}.{attempt} began and is not in the database")
        elif record.reason in NEVER_BEGUN:
            yield Violation("doubled", f"attempt {job}.{attempt} began, and was {record.reason}")
    for line in witness:
        if line.word == "overlaps":
            yield Violation("doubled", f"attempt {line.job}.{line.attempt} ran beside another")


def _judge_attempt(
    attempt: AttemptRecord, has_begun: bool, evidence: Evidence
) -> Iterable[Violation]:
    job, number, reason = attempt.job, attempt.number, attempt.reason
    name = f"attempt {job}.{number} ({evidence.submitted[job]})"
    kind = KINDS[evidence.submitted[job]]
    if reason == "exit":
        if not has_begun:
            yield Violation("lost", f"{name} has ended and never began")
        if attempt.exit_code != kind.exit_code(number):
            yield Violation("wrong", f"{name} exited with {attempt.exit_code}")
    elif reason in LOSSES | UNCOUNTED:
        if not evidence.may_lose(attempt):
            yield Violation("lost", f"{name} was lost ({reason}) without a cause")
    elif reason not in NEVER_BEGUN and job not in evidence.cancelled:
        yield Violation("wrong", f"{name} ended by {reason}")
    output = evidence.output.get((job, number), {})
    for stream in STREAMS:
        found = output.get(stream, b"")
        whole = pattern(job, number, stream, 0, kind.lines[stream])
        if found != whole if reason == "exit" else not whole.startswith(found):
            yield Violation("differs", f"{name}, {stream}: {_difference(found, whole)}")
    size = sum(map(len, output.values()))
    if size != attempt.log_bytes:
        yield Violation("differs", f"{name} has {size} bytes; its row says {attempt.log_bytes}")


def _difference(found: bytes, whole: bytes) -> str:
    at = next((i for i, pair in enumerate(zip(found, whole, strict=False)) if len({*pair}) > 1), -1)
    if at < 0:
        return f"{len(found)} bytes instead of {len(whole)}"
    return f"byte {at} of {len(whole)}: {found[at : at + 40]!r} for {whole[at : at + 40]!r}"
