"""What a seed stands for: the machines, the jobs, what the clients ask, and the faults. Pure."""

from dataclasses import dataclass, field, replace
from random import Random

from queued_runner.jobs import JobSpec
from tests.sim.processes import Program

LEASE = 2.0
"""Seconds of silence after which a server is dead to the others."""

FAULTS_END = 25.0
"""Seconds of virtual time in which faults happen; then everything is healed."""

FOR_EVER = 100_000.0
"""Seconds: only a kill ends such a step."""

MOMENTS = (
    "add", "claim", "finish", "cancel", "file written", "file synced", "process started",
    "process ended",
    "sent Spawn", "sent Ack", "sent Closed", "sent Close", "sent Resume", "sent Kill",
    "got Spawn", "got Close", "got OutputChunk", "got Attempts", "got Ready", "got Hello",
    "commit begun", "sent Refused", "got Refused", "sent Stale", "sent Started",
)  # fmt: skip
"""What a fault can follow at once; see `World.note`."""


SHARED_MOMENTS = ("take", "take", "rescue", "got Hello", "sent Welcome")
"""Such as are of more interest where there are several servers."""

AHEAD_MOMENTS = (
    "sent Withdraw", "sent Withdraw", "got Withdraw", "got Withdraw", "sent Refused", "got Refused",
    "sent Spawn", "got Spawn", "sent Started", "got Started", "sent Close", "claim", "cancel",
)  # fmt: skip
"""Such as are of more interest while runs wait for slots at their workers."""

DISK_MOMENTS = ("add", "finish", "file written", "file written", "file synced")

HOW = ("close", "reset", "vanish")
"""What a dead process leaves of its connections: an end, a reset, or nothing."""


@dataclass(frozen=True)
class WorkerPlan:
    """One worker; `rate` is how fast its clock runs."""

    name: str
    slots: int
    rate: float
    labels: dict = field(default_factory=dict)
    repeats: int = 0
    """Bytes that it sends again beyond what it is asked for, which a worker may do."""
    spool: int = 0
    """Bytes of output that it may keep on its disk."""


@dataclass(frozen=True)
class JobPlan:
    """One job and its client. Times are seconds after the submit, None: never."""

    spec: JobSpec
    program: Program
    submit_at: float
    cancel_after: float | None
    again_after: float | None
    follows: bool
    retry_after: float | None = None
    """When a person asks for it once more; it may not have ended by then."""


@dataclass(frozen=True)
class Fault:
    """Something bad: at a time, or right at the `count`-th `moment` after it."""

    kind: str
    at: float
    moment: str | None
    count: int
    seconds: float
    """How long it lasts."""
    target: str
    how: str
    server: str = ""
    """Which one it is about, where there are several; "": all of them."""

    def __str__(self):
        server = f" {self.server}" if self.server else ""
        when = f" at the {self.count}th {self.moment!r}" if self.moment else ""
        return f"{self.kind} {self.target}{server} ({self.how}) for {self.seconds:.2f} s{when}"


@dataclass(frozen=True)
class Scenario:
    seed: int
    heartbeat: float
    detach: float
    workers: tuple
    jobs: tuple
    faults: tuple
    slow_disk: float
    servers: tuple = ("server",)
    """Their names; none begins with another's."""


def draw(seed, servers=None):
    """The scenario of a seed; `servers`: 1 or 2, if it is not to say so itself."""
    scenario = _with_results_cut(Random(f"results {seed}"), _draw(seed))
    scenario = _with_burst(Random(f"burst {seed}"), scenario)
    scenario = _with_wide_jobs(Random(f"wide {seed}"), scenario)
    rng = Random(f"servers {seed}")
    number = rng.choices((1, 2), (7, 3))[0]
    return _with_two_servers(rng, scenario) if (servers or number) == 2 else scenario


def _draw(seed):
    rng = Random(f"scenario {seed}")
    heartbeat = rng.choice((2.0, 4.0))
    detach = heartbeat * rng.choice((3, 3, 4))
    workers = tuple(
        WorkerPlan(
            f"w{number}",
            rng.choice((1, 1, 2, 3)),
            rng.choice((1.0, 1.0, 0.95, 1.05)),
            {"gpu": "yes"} if number == 1 and rng.random() < 0.3 else {},
            rng.choice((0, 0, 5, 1000)),
            rng.choice((0, 3000, 1_000_000)),
        )
        for number in range(1, rng.choice((1, 2, 2, 3)) + 1)
    )
    labels = [worker.labels for worker in workers if worker.labels]
    jobs = tuple(_job(rng, number, labels, detach) for number in range(rng.randint(2, 7)))
    faults = _faults(rng, workers, detach)
    jobs, faults = _with_dependencies(Random(f"after {seed}"), jobs, faults, workers)
    return Scenario(seed, heartbeat, detach, workers, jobs, faults, rng.choice((0.0, 0.01, 0.1)))


def _with_results_cut(rng, scenario):
    """A worker dies while it sends what a job has left."""
    if rng.random() < 0.85 or not any(plan.program.results for plan in scenario.jobs):
        return scenario
    target, count = rng.choice(scenario.workers).name, rng.choice((1, 1, 2, 3))
    fault = Fault("worker crash", 0.0, "got ResultChunk", count, 1.0, target, rng.choice(HOW))
    return replace(
        scenario, faults=tuple(sorted((*scenario.faults, fault), key=lambda fault: fault.at))
    )


def _with_burst(rng, scenario):
    """Many short jobs at once, so that some wait for slots at their workers; and faults then."""
    if rng.random() < 0.8:
        return scenario
    at, slots = rng.uniform(0.5, 6), sum(worker.slots for worker in scenario.workers)
    number = slots + rng.randint(5, 9)
    # Not one of the first: runs wait where those before them were short.
    long_ones = rng.sample(range(slots, number), rng.choice((0, 1, 1, 2, 3)))
    jobs = [_short_job(rng, len(scenario.jobs) + n, at, n in long_ones) for n in range(number)]
    jobs = [*scenario.jobs, *jobs]
    faults = list(scenario.faults)
    for _ in range(rng.randint(1, 3)):
        faults.append(_fault_in_burst(rng, scenario, at))
    if rng.random() < 0.15:
        faults.append(_still_while_they_wait(rng, scenario, at))
    return replace(
        scenario,
        jobs=tuple(jobs),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def _still_while_they_wait(rng, scenario, at):
    """A worker stands still when it is asked for what waits there, until that runs elsewhere."""
    target, seconds = rng.choice(scenario.workers).name, scenario.detach * rng.uniform(2, 3)
    return Fault("worker still", at, "sent Withdraw", 1, seconds, target, "close")


def _short_job(rng, number, at, is_long):
    """One of a burst; a long one keeps those that wait behind it."""
    pause = rng.uniform(0.1, 4) if is_long else rng.choice((0.0, 0.005, 0.01, 0.018))
    options = {"kill_grace": 0.5, "backoff": 0.1, "on_lost": rng.choice(("retry", "fail"))}
    if rng.random() < 0.2:
        options["stdin"] = "x" * rng.choice((1, 2000))
    if rng.random() < 0.15:
        options["detach"] = 1.0
    is_cancelled = rng.random() < 0.15
    if is_cancelled:
        options["key"] = f"key-{number}"
    return JobPlan(
        JobSpec(command="program", args=(str(number),), **options),
        Program(((pause, 0, "stdout"),)),
        submit_at=at,
        cancel_after=rng.uniform(0, 0.4) if is_cancelled else None,
        again_after=None,
        follows=False,
    )


def _fault_in_burst(rng, scenario, at):
    kind = rng.choice(
        (
            "worker crash", "worker still", "worker still", "worker drain", "worker stop",
            "server crash", "server stop", "server drain", "reset", "reset", "half open", "hold",
            "hold", "hold one way", "go dark", "full disk", "slow link", "clock set",
        )
    )  # fmt: skip
    return Fault(
        kind,
        at=at + rng.choice((0.0, rng.uniform(0, 0.5))),
        moment=rng.choice(AHEAD_MOMENTS) if rng.random() < 0.7 else None,
        count=rng.choice((1, 1, 2, rng.randint(1, 20))),
        seconds=rng.choice(
            (0.05, rng.uniform(0, 0.5), rng.uniform(0.5, 3), scenario.detach * rng.uniform(0.8, 2))
        ),
        target=rng.choice(scenario.workers).name,
        how=rng.choice(HOW),
    )


def _with_wide_jobs(rng, scenario):
    """Some jobs take several slots, as many as each worker has: all but one may leave for good."""
    if rng.random() < 0.88:
        return scenario
    workers = tuple(replace(plan, slots=plan.slots + 1) for plan in scenario.workers)
    most = min(plan.slots for plan in workers)
    jobs = tuple(
        replace(plan, spec=plan.spec.model_copy(update={"slots": rng.randint(2, most)}))
        if rng.random() < 0.3
        else plan
        for plan in scenario.jobs
    )
    return replace(scenario, workers=workers, jobs=jobs)


def _with_two_servers(rng, scenario):
    """The same machines and jobs, and faults of two servers, and between them."""
    detach, workers = scenario.detach, scenario.workers
    faults = [replace(f, server=rng.choice(("A", "A", "B", "B", ""))) for f in scenario.faults]
    for _ in range(rng.randint(1, 4)):
        at = rng.uniform(0, 15)
        if rng.random() < 0.4:
            at = min(FAULTS_END - 1, rng.choice(faults).at + rng.uniform(0, 1))
        faults.append(
            Fault(
                rng.choice(
                    (
                        "database away",
                        "database away",
                        "database away",
                        "stand still",
                        "stand still",
                        "hold",
                        "hold",
                        "hold one way",
                        "half open",
                        "half open",
                        "server crash",
                        "server gone",
                    )
                ),
                at=at,
                moment=rng.choice(MOMENTS + SHARED_MOMENTS) if rng.random() < 0.5 else None,
                count=rng.choice((1, 1, 2, rng.randint(1, 12))),
                seconds=rng.choice(
                    (
                        rng.uniform(0, LEASE),
                        LEASE * rng.uniform(0.7, 2),
                        LEASE * rng.uniform(0.7, 2),
                        LEASE + detach * rng.uniform(0, 1.5),
                    )
                ),
                target=rng.choice(workers).name,
                how=rng.choice(HOW),
                server=rng.choice(("A", "B")),
            )
        )
    for tell_tale in (_only_one_way, _back_and_forth):
        if rng.random() < 0.25:
            faults += tell_tale(rng, workers, detach)
    return replace(
        scenario, faults=tuple(sorted(faults, key=lambda fault: fault.at)), servers=("A", "B")
    )


def _only_one_way(rng, workers, detach):
    """A server is out of reach of the database or stands still, and a worker reaches no other."""
    target, at = rng.choice(workers).name, rng.uniform(0, 8)
    one, other = rng.sample(("A", "B"), 2)
    seconds = LEASE * rng.uniform(0.8, 1.5) + detach * rng.uniform(0, 1.5)
    kind = rng.choice(("database away", "database away", "stand still"))
    return (
        Fault(
            "hold", max(0.0, at - rng.uniform(0, 3)), None, 1, seconds + 3, target, "close", other
        ),
        Fault(kind, at, None, 1, seconds, target, "close", one),
    )


def _back_and_forth(rng, workers, detach):
    """A worker goes from one server to the other and back, and neither is told."""
    target, at = rng.choice(workers).name, rng.uniform(0, 8)
    how = rng.choice(("close", "reset"))
    one, other = rng.sample(("A", "B"), 2)
    return tuple(
        Fault(
            rng.choice(("half open", "go dark", "reset")), at + after, rng.choice((None, "take")),
            1, 0.0, target, how, server,
        )
        for server, after in ((one, 0.0), (other, rng.uniform(0, 2)), (one, rng.uniform(2, 4)))
    )  # fmt: skip


def _job(rng, number, labels, detach):
    steps = tuple(
        (
            rng.choice((0.0, 0.01, rng.uniform(0, 2), rng.uniform(0, 2), rng.uniform(0, 15))),
            rng.choice((0, 10, 10, rng.randint(1, 300), rng.randint(300, 6000))),
            rng.choice(("stdout", "stdout", "stderr")),
        )
        for _ in range(rng.choice((0, 1, 2, 3, 4)))
    )
    cancel_after = rng.choice((0.0, rng.uniform(0, 10))) if rng.random() < 0.25 else None
    if cancel_after is not None and rng.random() < 0.5:
        steps = (*steps, (FOR_EVER, 0, "stdout"))
    program = Program(
        steps,
        codes=rng.choice(((0,), (0,), (1,), (1, 0), (3, 1, 0))),
        ignores_term=rng.random() < 0.2,
        refusals=rng.choice((0, 0, 0, 0, 1, 2)),
        is_missing=rng.random() < 0.03,
        results=rng.choice((0, 0, 0, 50, 2000)),
    )
    options = {"kill_grace": rng.choice((0.0, 0.5, 2.0)), "backoff": rng.choice((0.1, 1.0))}
    if cancel_after is not None or rng.random() < 0.5:  # one that is to be cancelled is known
        options["key"] = f"key-{number}"
    if rng.random() < 0.5:
        options["retries"] = rng.randint(1, 3)
    if rng.random() < 0.2:
        options["timeout"] = rng.uniform(0.5, 8)
    if rng.random() < 0.15:
        options["on_lost"] = "fail"
    if rng.random() < 0.15:
        options["detach"] = rng.choice((1.0, detach * 2))
    if rng.random() < 0.15:
        options["max_log_size"] = rng.choice((0, 100, 1000))
    if rng.random() < 0.15:
        options["stdin"] = "x" * rng.choice((1, 2000))
    if rng.random() < 0.15:
        options["delay"] = rng.uniform(0, 5)
    if labels and rng.random() < 0.3:
        options["needs"] = rng.choice(labels)
    return JobPlan(
        JobSpec(command="program", args=(str(number),), **options),
        program,
        submit_at=rng.choice((0.0, rng.uniform(0, 20))),
        cancel_after=cancel_after,
        again_after=rng.uniform(0, 20) if rng.random() < 0.3 else None,
        follows=rng.random() < 0.3,
    )


def _with_dependencies(rng, jobs, faults, workers):
    """Some jobs come after earlier ones, some are asked for once more."""
    jobs = list(jobs)
    density, is_fan = rng.choice((0.2, 0.2, 0.6)), rng.random() < 0.15
    for number in range(len(jobs)):
        plan, options = jobs[number], {}
        if number and (is_fan or rng.random() < density):
            others = rng.sample(range(number), min(number, rng.choice((1, 1, 2, 3))))
            if is_fan:
                others = [0]
            for other in others:
                known = {"key": f"key-{other}"}
                jobs[other] = replace(jobs[other], spec=jobs[other].spec.model_copy(update=known))
            options["after"] = tuple(f"key-{other}" for other in others)
            known_at = max(jobs[other].submit_at for other in others)
            plan = replace(plan, submit_at=max(plan.submit_at, known_at + 0.1))
        retry_after = rng.uniform(0, 20) if rng.random() < 0.3 else None
        jobs[number] = replace(
            plan,
            spec=plan.spec.model_copy(update=options),
            retry_after=retry_after if plan.cancel_after is None else None,
        )
    if any(plan.spec.after for plan in jobs) and rng.random() < 0.3:
        moment, target = rng.choice(("settle", "finish")), rng.choice(workers).name
        fault = Fault(
            "server crash", 0.0, moment, rng.choice((1, 2, 3)), rng.uniform(0, 1), target, "close"
        )
        faults = tuple(sorted((*faults, fault), key=lambda fault: fault.at))
    return tuple(jobs), faults


def _faults(rng, workers, detach):
    """Some follow one another closely: a return in the middle of a restart, for one."""
    faults = []
    for _ in range(rng.randint(1, 6)):
        at = rng.uniform(0, 15)
        if faults and rng.random() < 0.4:
            at = faults[-1].at + faults[-1].seconds * rng.choice((0, 1)) + rng.uniform(0, 1)
        faults.append(_fault(rng, workers, detach, min(at, FAULTS_END - 1)))
    for tell_tale in (_given_up_and_back, _crash_at_a_cancel):
        if rng.random() < 0.15:
            faults += tell_tale(rng, workers, detach)
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _given_up_and_back(rng, workers, detach):
    """A worker comes back when its jobs run elsewhere, to a server that has just started."""
    target, at = rng.choice(workers).name, rng.uniform(0, 3)
    away = detach * rng.uniform(1.0, 1.5)
    crash = at + away + rng.uniform(-1, 1)
    return (
        Fault("hold", at, None, 1, away, target, "close"),
        Fault("server crash", crash, None, 1, rng.uniform(0, 0.5), target, rng.choice(HOW)),
    )


def _crash_at_a_cancel(rng, workers, detach):
    """A cancel is durable, and the server that knows of it is gone."""
    target, seconds = rng.choice(workers).name, rng.uniform(0, detach / 2)
    return (Fault("server crash", 0.0, "cancel", rng.choice((1, 2)), seconds, target, "close"),)


def _fault(rng, workers, detach, at):
    kind = rng.choice(
        (
            "server crash", "server crash", "server crash", "server power cut", "server stop",
            "server drain", "worker crash", "worker crash", "worker gone", "worker drain",
            "worker stop", "reset", "reset", "half open", "hold", "hold", "hold one way", "go dark",
            "slow link", "slow disk", "full disk", "clock set",
        )
    )  # fmt: skip
    moments = DISK_MOMENTS if kind == "server power cut" else MOMENTS
    moment = rng.choice(moments) if rng.random() < 0.6 else None
    return Fault(
        kind,
        at=at,
        moment=moment,
        count=rng.choice((1, 1, 2, rng.randint(1, 12))),
        seconds=rng.choice((0.0, 0.05, rng.uniform(0, 2), detach * rng.uniform(0, 1.5))),
        target=rng.choice(workers).name,
        how=rng.choice(HOW),
    )
