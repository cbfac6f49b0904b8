"""What must be true at every moment of a run (I1 to I17), against the witness of the machines.

Looks at the database and the files as they are, never at what the product says of them.
"""

import math
from collections import Counter

import trio

import remote_runner.emitter
import remote_runner.session
import simple_worker.spool
import simple_worker.window
from queued_runner.jobs import JobState, attempt_id, parse_attempt_id
from queued_runner.log_files import decode_records
from queued_runner.retry import MAX_LOSSES
from remote_runner.types import Reason
from tests.sim.processes import RESULT
from tests.sim.scenario import LEASE

MEANING = {
    "I0": "nothing fails in a way that nobody expects",
    "I1": "a submit that was answered exists, and ends in exactly one terminal state",
    "I2": "an attempt is started at most once, and is durable before, and has not ended",
    "I3": "attempts of one job never overlap",
    "I4": "a write with a stale fence has no effect",
    "I5": "stored output is a prefix of what was written, and equal to it at the end",
    "I6": "what was acknowledged is durable, and stays so",
    "I7": "a terminal state is final",
    "I8": "no attempt begins after an acknowledged cancel",
    "I9": "limits of attempts and losses hold; refusals, drains and restarts spend nothing",
    "I10": "queues stay below their caps",
    "I11": "nothing is left at the end",
    "I12": "the same key is the same job",
    "I13": "the outcome is what the process did",
    "I14": "an event is told after it is durable, and each end once",
    "I15": "results are there with the end that was told, whole, and never in part",
    "I17": "an attempt is one server's, which has its worker; nobody is buried alive",
    "I16": "a job begins after all that it comes after have succeeded, or fails with one of them",
    "I18": "what runs at a worker takes no more slots than it has",
}

LARGEST_VALUE = 5000
"""Bytes of the largest value on the wire of a simulation: an input, or a list of attempts."""
LOST = frozenset(("worker-lost", "abandoned"))
FREE = frozenset(("refused", "stopped", "unheard"))


class Checks:
    """The state that the checks remember. `fail(code, text)` is called for what is wrong."""

    def __init__(self, world, fail):
        self._world = world
        self._fail = fail
        self.acked_jobs = {}
        """The specs of all jobs whose submit was answered."""
        self._keys = {}
        self.processes = {}
        self._alive = {}
        self._rows = {}
        self._claimed = {}
        """Every job as it was last committed."""
        self._cancelled = {}
        self._acked = {}
        self._worded = set()
        """(server, attempt, handovers) where the server that had it since then heard a `close`."""
        self._given_up = set()
        """(server, attempt) where this server no longer believes its worker."""
        self._contacts = {}
        """When each actor last got a message."""
        self._heard_acks = {}
        """How much of each attempt its worker may forget."""
        self._stale = set()
        self._ended = set()
        """Attempts whose outcome is durable."""
        self._succeeded = set()
        self._unsuccessful = set()
        """Jobs that have ever ended in these ways."""
        self._spoken_ends = set()
        """Attempts whose stored outcome is the worker's word."""
        self._ends = set()
        """(server, job) where this server wrote the final state."""
        self._told_ends = set()
        self._told = Counter()
        self._ended_twice = set()
        self._enlisted = {}
        """Servers by the ids of their lives."""
        self._revived = set()

    # --- the witness ---

    def on_process_start(self, process):
        name = process.name
        if name in self.processes:
            self._fail("I2", f"{name} was started twice")
        self.processes[name] = process
        row = self._rows.get(process.job_id)
        if row is None or row.attempt < process.attempt:
            self._fail("I2", f"{name} was started, and the database knows no such attempt")
        if name in self._ended:
            self._fail("I2", f"{name} was started after its end was durable")
        other = self._alive.get(process.job_id)
        if other is not None:
            self._fail("I3", f"{name} was started while {other.name} still lives")
        if process.attempt > self._cancelled.get(process.job_id, process.attempt):
            self._fail("I8", f"{name} was started after the cancel of its job was acknowledged")
        if process.is_alive:
            self._alive[process.job_id] = process
            self._check_slots(process.worker)

    def _check_slots(self, worker):
        """Of what a server has given up, the slots are free, though it may take a while to end."""
        given_up = {name for _, name in self._given_up}
        there = [p for p in self._alive.values() if p.worker is worker and p.name not in given_up]
        rows = [(p, self._rows[p.job_id]) for p in there]
        taken = sum(
            row.spec.slots for p, row in rows
            if row.state is JobState.RUNNING and row.attempt == p.attempt
        )  # fmt: skip
        if taken > self._world.worker_of_boot(worker.name).plan.slots:
            names = ", ".join(sorted(p.name for p in there))
            self._fail("I18", f"{names} take {taken} slots of {worker.name}")

    def on_process_end(self, process):
        if self._alive.get(process.job_id) is process:
            del self._alive[process.job_id]

    def on_abandon(self, process):
        """A worker stops an attempt by itself, or because it is told that it is stale."""
        life = self._world.worker_of_boot(process.worker.name)
        since = trio.current_time() - self._contacts.get(process.worker, 0.0)
        detach = self._rows[process.job_id].spec.detach or self._world.scenario.detach
        if not life.is_leaving and process.name not in self._stale and since < detach / 2:
            self._fail("I9", f"{process.name} is stopped by its worker, which is in contact")

    # --- queues ---

    def on_write(self, process, limit):
        """A process is about to write more, which its worker is ready to read."""
        kept = len(process.written) if limit is None else min(limit, len(process.written))
        held = kept - self._heard_acks.get(process.name, 0)
        most = simple_worker.window.WINDOW
        spool = self._world.worker_of_boot(process.worker.name).plan.spool
        if spool:
            most += spool + 2 * simple_worker.spool.BATCH  # what is to be written, or was just read
        if held > most and process.name not in self._stale:
            self._fail("I10", f"{held} bytes of {process.name} are held, and more are read")

    def on_read(self, connection):
        """Bytes of a connection were read: what waits in memory, here and in all others."""
        for emitter in self._world.emitters:
            # Two values may be beyond the mark: each lane takes one when it is just below.
            if emitter.pending > remote_runner.emitter.MAX_OUTPUT_PENDING + 2 * LARGEST_VALUE:
                self._fail("I10", f"{emitter.pending} bytes wait to be written")
        session = next((s for s in self._world.sessions if s.emitter.wire is connection), None)
        if session is not None:
            # Two runs may have ended while it waited for these bytes.
            runs = len(session.worker.runs) + 2
            limits = remote_runner.session
            mark = limits.UNACKED_MARK + limits.UNACKED_PER_RUN * runs
            if session.unacked > mark:
                self._fail("I10", f"{session.unacked} bytes are not durable, and more are read")

    # --- the database ---

    def on_commit(self, job_id, is_revived):
        """A transaction that touched this job is durable now; `is_revived`: as a person asked."""
        row = self._world.database.store.get(job_id)
        before = self._rows.get(job_id)
        self._rows[job_id] = row
        if is_revived:
            self._revived.add(job_id)
            if before is not None and not before.state.is_terminal:
                # It has ended and was asked for again, and maybe has ended again, in one commit.
                self._ended_twice.add((job_id, row.finished_at))
        self._claimed.setdefault(attempt_id(job_id, row.attempt), trio.current_time())
        if before is not None:
            if before.state.is_terminal and row != before and not is_revived:
                self._fail("I7", f"job {job_id} was {before.state}, and became {row.state}")
            if row.attempt not in (before.attempt, before.attempt + 1):
                self._fail(
                    "I2", f"job {job_id} went from attempt {before.attempt} to {row.attempt}"
                )
            if row.attempt != before.attempt and job_id in self._cancelled:
                self._fail(
                    "I8", f"attempt {row.attempt} of job {job_id} was claimed after a cancel"
                )
            if row.attempt != before.attempt:
                self._check_after(row, f"attempt {row.attempt} of job {job_id} was claimed")
        self._note_end(row)
        attempts = self._world.database.store.attempts(job_id)
        self._ended |= {attempt_id(job_id, a.number) for a in attempts if a.finished_at is not None}
        self._check_limits(row, [a.reason for a in attempts])

    def _check_after(self, row, what):
        missing = [
            other
            for other in row.after
            if other not in self._succeeded and self._state(other) is not JobState.SUCCEEDED
        ]
        if missing:
            self._fail("I16", f"{what}, and jobs {missing} have never succeeded")

    def _note_end(self, row):
        if row.state is JobState.SUCCEEDED:
            self._succeeded.add(row.id)
        elif row.state.is_terminal:
            self._unsuccessful.add(row.id)
        if row.reason == "dependency" and not any(
            other in self._unsuccessful
            or self._state(other) in (JobState.FAILED, JobState.CANCELLED)
            for other in row.after
        ):
            self._fail("I16", f"job {row.id} failed, and none of {row.after} that it comes after")

    def _state(self, job_id):
        """As it is now: one commit may hold the end of a job and what follows from it."""
        return self._world.database.store.get(job_id).state

    def _check_limits(self, row, reasons):
        lost = sum(reason in LOST for reason in reasons)
        failed = sum(r is not None and r not in LOST and r not in FREE for r in reasons)
        if row.failures > failed or row.failures > row.spec.retries + 1:
            self._fail("I9", f"job {row.id} has {row.failures} failures, of attempts {reasons}")
        if row.losses > lost or row.losses > MAX_LOSSES:
            self._fail("I9", f"job {row.id} has {row.losses} losses, of attempts {reasons}")
        if row.reason == "quarantined" and lost < MAX_LOSSES:
            self._fail("I9", f"job {row.id} was quarantined after {lost} losses")
        if row.reason == "dependency":
            return
        if row.state is JobState.FAILED and reasons[-1] not in LOST | FREE:
            if failed <= row.spec.retries:
                self._fail("I9", f"job {row.id} failed after {failed} of its attempts")

    def on_enlisted(self, server, actor):
        """A server writes as this from here on."""
        self._enlisted[server] = actor

    def on_buried(self, own, server):
        """One is declared dead."""
        beats = {each.id: each.beat_at for each in self._world.database.store.servers()}
        beaten = beats.get(server, -math.inf)  # it was buried before, and leaves now
        actor = self._enlisted[server]
        if server != own and actor.is_on and trio.current_time() < beaten + LEASE:
            self._fail("I17", f"{actor.name} is buried, and has beaten {beaten}")

    def on_claim(self, own, jobs):
        """Attempts begin, and are not committed yet."""
        places = {worker.worker_id: worker for worker in self._world.database.store.workers()}
        for job in jobs:
            worker = places.get(job.worker_id)
            if self._world.is_shared and worker is not None and worker.server != own:
                self._fail("I17", f"job {job.id} was claimed for {worker.worker_id}, which another"
                                  " server has")  # fmt: skip

    def check_claimed(self, job_id):
        """A claim is about to be committed."""
        server = self._world.database.store.get(job_id).server
        if server not in {each.id for each in self._world.database.store.servers()}:
            self._fail("I17", f"job {job_id} was claimed by {server}, which is buried")

    def on_finish(self, actor, own, before, attempt, handovers, outcome, after):
        """The end of an attempt is written, and not committed yet; the server that writes it has it
        since so many `handovers`."""
        name = attempt_id(before.id, attempt)
        if after is not None and before.server != own:
            self._fail("I4", f"the end of {name} counted, which {before.server} has, not {own}")
        is_mine = before.server == own and before.handovers == handovers
        if before.attempt != attempt or before.state is not JobState.RUNNING or not is_mine:
            if after is not None or self._world.database.store.get(before.id) != before:
                self._fail("I4", f"the end of {name} counted; the job is {before.state}, in"
                                 f" attempt {before.attempt}")  # fmt: skip
            return
        if after.state.is_terminal:
            self._ends.add((actor, before.id))
        process = self.processes.get(name)
        if process is not None and process.is_alive:
            self._fail("I3", f"{name} is written down as {outcome.reason}, and its process lives")
        if outcome.reason is Reason.REFUSED and process is not None:
            self._fail("I2", f"{name} is written down as refused, and it was started")
        if outcome.reason in (Reason.WORKER_LOST, Reason.ABANDONED, Reason.UNHEARD):
            if before.spec.on_lost == "fail" and after.state is JobState.QUEUED:
                self._fail("I9", f"{name} is lost and tried again, against its on_lost")
            if process is None and outcome.reason is Reason.WORKER_LOST:
                self._check_never_begun(name, before)
        if (actor, name, handovers) in self._worded:
            self._spoken_ends.add(name)
            if process is not None and outcome.exit_code != process.exit_code:
                self._fail("I13", f"{name} is written down with {outcome.exit_code}, and exited"
                                  f" with {process.exit_code}")  # fmt: skip
        elif outcome.reason in (Reason.EXIT, Reason.SIGNAL, Reason.TIMEOUT):
            self._fail("I13", f"{name} is written down as {outcome.reason}, and nobody said so")

    def _check_never_begun(self, name, job):
        """A worker that lives, and never got this attempt, has not lost it until it is given up."""
        worker = self._world.worker_of_boot(job.worker_boot)
        detach = job.spec.detach or self._world.scenario.detach
        is_given_up = trio.current_time() >= self._claimed[name] + detach
        if worker is not None and worker.actor.is_on and not is_given_up:
            self._fail("I9", f"{name} never began at {worker.actor.name}, and counts as lost")

    # --- what is said ---

    def on_event(self, actor, kind, job_id, facts):
        """A server tells something of a job."""
        row = self._rows.get(job_id)
        if row is None or row.attempt < facts.get("attempt", 0):
            self._fail("I14", f"{kind} of job {job_id} is told, and is not durable")
        if kind in ("job.done", "job.cancelled"):
            is_asked_again = job_id in self._revived  # maybe in the same commit
            if (row.state, row.attempt) != (
                facts["state"],
                facts["attempt"],
            ) and not is_asked_again:
                self._fail("I14", f"{kind} of job {job_id} is told, which is {row.state}")
            # Once more, if a person asked for it once more.
            end = (actor, job_id, row.attempt, row.finished_at)
            self._told[end] += 1
            if self._told[end] > 1 + ((job_id, row.finished_at) in self._ended_twice):
                self._fail("I14", f"{kind} of job {job_id} is told twice")
            self._told_ends.add((actor, job_id))

    def check_told(self, actor):
        """All that this server has ended was told."""
        for job_id in sorted(job for who, job in self._ends if who is actor):
            if (actor, job_id) not in self._told_ends:
                self._fail("I14", f"the end of job {job_id} was not told")

    def on_sent(self, actor, message):
        kind = type(message).__name__
        if kind == "Ack":
            self._check_durable(message.id, message.offset)
        elif kind == "Closed":
            if message.id not in self._ended:
                self._fail("I6", f"the end of {message.id} was confirmed, and is not durable")
            self._check_results_durable(message.id)
        elif kind == "Resume":
            if message.offset < self._acked.get(message.id, 0):
                self._fail("I6", f"{message.id} is to resume at {message.offset}, and"
                                 f" {self._acked[message.id]} was acknowledged")  # fmt: skip
        elif kind == "Spawn":
            job_id, number = parse_attempt_id(message.options.id)
            row = self._rows.get(job_id)
            if row is None or row.attempt < number:
                self._fail("I2", f"{message.options.id} is to start, and is not durable")

    def on_given_up(self, actor, name):
        """A server takes an attempt for lost; what its worker may still say does not count."""
        self._given_up.add((actor, name))

    def on_taken(self, actor, jobs):
        """A server has what it may have given up before: its worker's word counts again."""
        self._given_up -= {(actor, attempt_id(job.id, job.attempt)) for job in jobs}

    def on_received(self, actor, message):
        kind = type(message).__name__
        if kind != "Goodbye":  # with which a server may refuse who is not its own
            self._contacts[actor] = trio.current_time()
        if kind == "Close" and (actor, message.id) not in self._given_up:
            job_id, _ = parse_attempt_id(message.id)
            if (row := self._rows.get(job_id)) is not None:
                self._worded.add((actor, message.id, row.handovers))
        elif kind == "Stale":
            self._stale.add(message.id)
        elif kind == "Ack":
            self._heard_acks[message.id] = max(message.offset, self._heard_acks.get(message.id, 0))

    def _check_durable(self, name, offset):
        """All below `offset` is on disk, but for what the job's cap keeps out."""
        self._acked[name] = max(offset, self._acked.get(name, 0))
        job_id, number = parse_attempt_id(name)
        cap = self._rows[job_id].spec.max_log_size
        needed = offset if cap is None else min(offset, cap)
        if self._durable_bytes(job_id, number) < needed:
            self._fail("I6", f"{offset} bytes of {name} were acknowledged, and are not durable")

    def _check_results_durable(self, name):
        """What the worker forgets now is in the database, or safe in its file."""
        process = self.processes.get(name)
        if process is None or process.left is None or name not in self._spoken_ends:
            return
        job_id, number = parse_attempt_id(name)
        stored = self._world.database.store.results(job_id, number)
        if stored is None or stored.head.offset_of(RESULT) != (0, len(process.left)):
            self._fail("I15", f"the end of {name} was confirmed, and its results are not durable")
            return
        if stored.inline is None:
            name = f"{number}.{stored.epoch}" if stored.epoch else str(number)
            path = self._world.files.root / "results" / str(job_id // 1000) / str(job_id) / name
            if self._world.files.durable_size(path) != stored.start + len(process.left):
                self._fail(
                    "I15", f"the end of {name} was confirmed, and its results are not synced"
                )

    def check_results(self, name, content):
        """What is read of the results of an attempt, now that all has ended; None: nothing."""
        process = self.processes.get(name)
        left = None if process is None else process.left
        is_due = name in self._spoken_ends and left is not None
        if content != left and (is_due or content is not None):
            self._fail("I15", f"{name} left {left!r}, and {content!r} is read")

    # --- output ---

    def _durable_bytes(self, job_id, number):
        """The output of an attempt that is safe in its files."""
        at = 0
        paths = sorted(self._world.log_folder(job_id, number).glob("*.seg"), key=_as_read)
        for path in paths:
            epoch, start = _as_read(path)
            if start > at:
                continue
            data = path.read_bytes()[: self._world.files.durable_size(path)]
            end = start + sum(len(record.data) for record in decode_records(data, start)[0])
            at = end if epoch == _as_read(paths[-1])[0] else max(at, end)
        return at

    def check_output(self, name, offset, stream, data, who):
        """Somebody was given this piece of output."""
        process = self.processes.get(name)
        if process is None:
            self._fail("I5", f"{who}: {name} has output, and was never started")
            return
        end = offset + len(data)
        letter = stream[3:4].encode()
        if process.written[offset:end] != data or process.streams[offset:end] != letter * len(data):
            self._fail("I5", f"{who}: bytes {offset} to {end} of {name} ({stream}) are not what it"
                             " wrote there")  # fmt: skip

    def check_whole(self, attempt, cap, size):
        """`size` bytes of an attempt are readable now that all has ended."""
        name = attempt_id(attempt.job_id, attempt.number)
        process = self.processes.get(name)
        if attempt.log_bytes != size:
            self._fail("I5", f"{size} bytes of {name} are readable, of {attempt.log_bytes}")
        if process is None or name not in self._spoken_ends:
            return
        written = len(process.written)
        expected = written if cap is None else min(written, cap)
        if size != expected or attempt.log_dropped != written - expected:
            self._fail("I5", f"{name} wrote {written} bytes, {size} are stored and"
                             f" {attempt.log_dropped} dropped")  # fmt: skip

    # --- clients ---

    def on_submitted(self, job_id, spec):
        if spec.key is not None:
            known = self._keys.setdefault(spec.key, job_id)
            if known != job_id:
                self._fail("I12", f"{spec.key} is job {known}, and job {job_id} too")
        self.acked_jobs[job_id] = spec
        self._check_exists(job_id)

    def on_cancelled(self, job_id, job):
        """A cancel was answered."""
        self._cancelled.setdefault(job_id, job.attempt)

    def check_jobs_exist(self):
        """A server has started."""
        for job_id in self.acked_jobs:
            self._check_exists(job_id)

    def _check_exists(self, job_id):
        row = self._rows.get(job_id)
        if row is None or row.spec != self.acked_jobs[job_id]:
            self._fail("I1", f"job {job_id} was acknowledged, and does not exist")


def _as_read(path):
    """The epoch and the first offset of a segment, which say in which order they are read."""
    start, _, epoch = path.stem.partition(".")
    return int(epoch or 0), int(start)
