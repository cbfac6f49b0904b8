"""Why a job stands where it stands, in a sentence; and for each worker, where they are the cause.

Pure: the clock, the workers and the jobs it comes after are parameters. It decides nothing: who
gets which slot is decided in the store, by the same labels and slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from queued_runner.jobs import Job, JobState, Limits
from remote_runner.types import WorkerInfo, satisfies

MAX_NAMED: Final = 10
"""Jobs that a sentence names one by one."""

Dependency = tuple[int, JobState, bool]
"""A job that another one comes after: its state, and whether it is still waited for."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What else a job depends on. `now` is UNIX seconds, `limits` are the server's.

    `kept`: for which job the free slots of which worker, by its id, are kept.
    """

    now: float
    is_claiming: bool
    workers: Sequence[WorkerInfo]
    limits: Limits
    kept: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fit:
    """How one worker suits a job. `fits`: it may get the job, now or once a slot is free."""

    id: str
    name: str
    fits: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is in its state; `after` are the jobs that it waits for now.

    `workers` are told of where labels or slots are what it waits for.
    """

    job: Job
    reason: str
    after: tuple[int, ...] = ()
    workers: tuple[Fit, ...] = ()


def explain(job: Job, situation: Situation, dependencies: Sequence[Dependency]) -> Explanation:
    """Why the job stands where it stands."""
    if job.state is JobState.RUNNING:
        return Explanation(job, _running(job, situation))
    if job.state is not JobState.QUEUED:
        return Explanation(job, _ended(job, dependencies))
    after = tuple(other for other, _, is_open in dependencies if is_open)
    reason = _held_back(job, situation, after)
    if reason is not None:
        return Explanation(job, reason, after)
    fits = tuple(_fit(job, worker, situation.kept) for worker in situation.workers)
    return Explanation(job, _place(job, situation), after, fits)


def pending_reasons(jobs: Sequence[Job], situation: Situation) -> list[str | None]:
    """Why each of these jobs does not run yet; None where one is not queued.

    Jobs with the same needs share one look at the workers: there may be thousands of both.
    """
    places: dict[object, str] = {}

    def reason(job: Job) -> str | None:
        if job.state is not JobState.QUEUED:
            return None
        held_back = _held_back(job, situation, job.after)
        if held_back is not None:
            return held_back
        needs = bool(job.spec.mask), job.spec.slots, *job.spec.needs.items()
        if needs not in places:
            places[needs] = _place(job, situation)
        return places[needs]

    return [reason(job) for job in jobs]


def _held_back(job: Job, situation: Situation, after: Sequence[int]) -> str | None:
    """What keeps the job from being given to any worker; `after` may name too many."""
    if job.waits_for:
        which = _named(after)
        if job.waits_for < len(after):
            return f"it waits for {job.waits_for} of the {which} to succeed"
        return f"it waits for {which} to succeed"
    if job.run_after > situation.now:
        return f"it is delayed until {_time(job.run_after)}"
    if not situation.is_claiming:
        return "the server is stopping and starts no more jobs; the next one will"
    return None


def _place(job: Job, situation: Situation) -> str:
    workers = situation.workers
    if not workers:
        return "no worker is connected; start one with `simple-worker`"
    fitting = [worker for worker in workers if satisfies(worker.labels, job.spec.needs)]
    if not fitting:
        needs = ", ".join(f"{key}={value}" for key, value in job.spec.needs.items())
        return f"no connected worker has the labels {needs}"
    if job.spec.mask:
        fitting = [worker for worker in fitting if worker.can_mask]
        if not fitting:
            return (
                "no worker that fits can hide its secrets (`mask`): one that pulls over HTTP"
                " cannot, nor a baseline one, nor one of an earlier release; start one with"
                " `simple-worker` (without `--pull`)"
            )
    slots = job.spec.slots
    if slots > 1:
        fitting = [worker for worker in fitting if _widest(worker) >= slots]
        if not fitting:
            return (
                f"no worker that fits has {slots} slots for one job: start one with `simple-worker"
                f" --slots {slots}` or more (without `--pull`)"
            )
    if all(worker.state in ("draining", "drained") for worker in fitting):
        if all(worker.is_leaving for worker in fitting):
            return "the fitting workers are leaving and take no more jobs"
        return "every fitting worker is drained; `queued-runner resume WORKER` takes it back"
    free = [worker for worker in fitting if worker.free >= slots]
    if any(worker.id not in situation.kept for worker in free):
        return "it is about to start"
    if free:
        keeper = situation.kept[free[0].id]
        return f"the free slots are kept for job {keeper}, which comes before it and takes more"
    if slots > 1:
        return f"it waits until {slots} slots of one fitting worker are free at once"
    return "all slots of the fitting workers are taken"


def _widest(worker: WorkerInfo) -> int:
    """The most slots that one job may take there."""
    return worker.slots if worker.widest is None else min(worker.widest, worker.slots)


def _fit(job: Job, worker: WorkerInfo, kept: Mapping[str, int]) -> Fit:
    missing = [
        f"it has {key}={worker.labels[key]} and not {key}={value}"
        if key in worker.labels
        else f"it lacks {key}={value}"
        for key, value in job.spec.needs.items()
        if worker.labels.get(key) != value
    ]
    if job.spec.mask and not worker.can_mask:
        missing.append("it cannot hide secrets")
    slots = job.spec.slots
    if slots > 1 and _widest(worker) < slots:
        missing.append(
            f"it has {worker.slots} of {slots} slots"
            if worker.widest is None
            else "it gives a job one slot, since it pulls over HTTP"
        )
    fits = not missing and worker.state == "ready"
    if missing:
        why = ", ".join(missing)
    elif worker.is_leaving:
        why = "it is leaving and takes no more jobs"
    elif worker.state in ("draining", "drained"):
        why = "it is drained"
    elif worker.state != "ready":
        why = "it is just connecting"
    elif worker.free:
        why = f"free slots: {worker.free} of {worker.slots}"
        if worker.free < slots:
            why += f", and it takes {slots}"
        elif kept.get(worker.id, job.id) != job.id:
            why += f", kept for job {kept[worker.id]}"
    elif worker.busy < worker.slots:
        why = "it has no room for more jobs just now"  # its disk is nearly full, for one
    else:
        why = "its slot is taken" if worker.slots == 1 else f"its {worker.slots} slots are taken"
    return Fit(worker.id, worker.name, fits, why)


def _running(job: Job, situation: Situation) -> str:
    name = job.worker or "its worker"
    since = "" if job.started_at is None else f" since {_time(job.started_at)}"
    if job.worker_id not in {worker.id for worker in situation.workers}:
        detach = job.spec.limits(situation.limits).detach
        return (
            f"it runs on {name}, which is away; the attempt is given up where that stays away for"
            f" {detach:g} s"
        )
    if job.cancel_requested:
        return f"it is being cancelled: its processes on {name} are told to end"
    return f"it runs on {name}{since}, in attempt {job.attempt}"


def _ended(job: Job, dependencies: Sequence[Dependency]) -> str:
    if job.state is JobState.SUCCEEDED:
        return f"it succeeded on {job.worker}, in attempt {job.attempt}"
    if job.state is JobState.CANCELLED:
        return "it was cancelled"
    match job.reason:
        case "exit":
            return f"it failed: its process exited with {job.exit_code}"
        case "signal":
            return f"it failed: its process was ended by {job.signal}"
        case "timeout":
            return f"it failed: it took longer than its timeout of {job.spec.timeout:g} s"
        case "spawn-error":
            return "it failed: its command could not be started; its output says why"
        case "worker-lost":
            return f"it failed: its worker {job.worker} was lost, and it may not begin twice"
        case "quarantined":
            return f"it failed: it has lost {job.losses} workers, and is not tried again"
        case "dependency":
            bad = [
                other
                for other, state, _ in dependencies
                if state in (JobState.FAILED, JobState.CANCELLED)
            ]
            which = _named(bad) if bad else "a job"
            return f"it failed without a start: {which} that it came after did not succeed"
    return f"it failed ({job.reason})"


def _named(ids: Sequence[int]) -> str:
    """`job 3`, `jobs 3, 4 and 5`; of many the first ones."""
    if len(ids) == 1:
        return f"job {ids[0]}"
    first = [str(job_id) for job_id in ids[:MAX_NAMED]]
    more = len(ids) - len(first)
    last = f"{more} more" if more else first.pop()
    return f"jobs {', '.join(first)} and {last}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
