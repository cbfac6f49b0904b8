"""`HeldAttempt`: whatever is cut and resumed, the runner gets all output, all results, one end."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from remote_runner.protocol.messages import Close, OutputChunk, ResultChunk
from remote_runner.types import Outcome, Reason
from simple_worker.attempts import HeldAttempt
from simple_worker.result_feed import ResultFeed
from simple_worker.results import Archive
from simple_worker.spool import Spool


def no_task(*_):
    raise AssertionError("what fits into memory needs no task")


class Attempt(RuleBasedStateMachine):
    """An attempt at a worker, and the runner that hears of it over connections that break."""

    def __init__(self):
        super().__init__()
        self.held = HeldAttempt("1.1", Spool("1.1", None, no_task, lambda: None))
        self.written = []
        self.received = []
        self.acked = 0
        self.is_connected = True
        self.is_wanted = True
        self.outcome = None
        self.results = b""
        self.results_received = b""
        self.closes = 0
        """How often the end was told on this connection."""

    @initialize(life=st.sampled_from([0, 10, 40]), interest=st.sampled_from([0, 20, 10_000]))
    def plan(self, life, interest):
        """After how many bytes it may end, and may be of no interest any more."""
        self.life, self.interest = life, interest

    @precondition(lambda self: self.outcome is None)
    @rule(stream=st.sampled_from(["stdout", "stderr"]), data=st.binary(min_size=1, max_size=9))
    def write(self, stream, data):
        self.held.output.add(stream, data)
        if self.is_wanted:
            self.written += [(stream, byte) for byte in data]

    @precondition(lambda self: self.outcome is None and len(self.written) >= self.life)
    @rule(code=st.integers(0, 255), results=st.none() | st.binary(max_size=30))
    def end(self, code, results):
        self.outcome = Outcome(Reason.EXIT, code, None, len(self.written), 1.25, 4096, 0.5)
        feed = None
        if results is not None:
            self.results = b"{}\n" + results
            archive = Archive(b"{}\n", results, len(results))
            feed = ResultFeed(archive, None, no_task, lambda: None)
            if not self.is_wanted:
                feed.drop()
        self.held.end(self.outcome, feed)

    @rule(max_chunk=st.integers(1, 12))
    def send(self, max_chunk):
        self.hear(max_chunk)

    def hear(self, max_chunk):
        """What the runner hears next."""
        message = self.held.next_message(max_chunk)
        match message:
            case OutputChunk(stream, data, "1.1", offset):
                assert self.is_connected
                assert self.is_wanted
                assert 1 <= len(data) <= max_chunk
                assert offset == len(self.received)
                self.received += [(stream, byte) for byte in data]
                assert self.received == self.written[: len(self.received)]
            case ResultChunk(data, "1.1", offset):
                assert self.is_connected
                assert 1 <= len(data) <= max_chunk
                assert len(self.received) == len(self.written) or not self.is_wanted
                assert offset == len(self.results_received)
                self.results_received += data
                assert self.results.startswith(self.results_received)
            case Close():
                assert self.is_connected
                assert message == Close(
                    self.outcome.exit_code, "1.1", None, "exit", len(self.written), 1250, 4, 500,
                    len(self.results) or None,
                )  # fmt: skip
                assert self.results_received == self.results
                assert len(self.received) == len(self.written) or not self.is_wanted
                self.closes += 1
                assert self.closes == 1
            case None:
                all_sent = len(self.received) == len(self.written) or not self.is_wanted
                is_told = self.outcome is None or self.closes == 1
                assert not self.is_connected or (all_sent and is_told)
        return message

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share):
        self.acked += int(share * (len(self.received) - self.acked))
        self.held.output.ack(self.acked)

    @precondition(lambda self: self.is_connected)
    @rule(share=st.floats(0, 1))
    def cut(self, share):
        """What was sent last did not arrive."""
        self.held.is_sendable = self.is_connected = False
        arrived = self.acked + int(share * (len(self.received) - self.acked))
        del self.received[arrived:]
        arrived = int(share * len(self.results_received))
        self.results_received = self.results_received[:arrived]

    @precondition(lambda self: not self.is_connected)
    @rule()
    def resume(self):
        self.is_connected = True
        self.closes = 0
        self.held.resume(len(self.received), len(self.results_received))

    @precondition(lambda self: len(self.written) >= self.interest)
    @rule()
    def drop(self):
        self.held.output.drop()
        self.is_wanted = False

    @invariant()
    def it_runs_until_it_has_ended(self):
        assert self.held.is_running == (self.outcome is None)
        assert self.held.output.size == len(self.written)

    def teardown(self):
        if not self.is_connected:
            self.resume()
        while self.hear(7) is not None:
            pass


TestHeldAttempt = Attempt.TestCase
