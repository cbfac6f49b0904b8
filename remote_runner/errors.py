"""The error tree of the remote runner. A job's outcome is a value (`types.Outcome`), not an error.

Every message says what to do next, because it ends up in front of a person.
"""


class RunnerError(Exception):
    """Anything that duplex-runner raises on purpose."""


class ProtocolError(RunnerError):
    """The wire protocol was broken; see the two subclasses for whose fault it is."""


class LocalProtocolError(ProtocolError):
    """Our side tried to send something the protocol does not allow: a bug in the calling code."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol does not allow. It costs that one connection.

    Args:
        message: a sentence for a person.
        reply: bytes worth sending before the connection closes, in a form that the peer
            (a browser, say) shows to a person; empty when a `goodbye` event says it.
    """

    def __init__(self, message: str, reply: bytes = b"") -> None:
        super().__init__(message)
        self.reply = reply


class ConnectionLost(RunnerError):
    """The connection ended while something was still to be sent or awaited."""


class UnusableSettings(RunnerError):
    """What was asked for can never work, or must not be done."""


class NotNow(RunnerError):
    """What this needs cannot be reached now; it may be tried again after a moment."""


class CannotListen(RunnerError):
    """A port is in use, or this process may not open it."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {why}; choose another port")
        self.port = port


class NoWorkerAvailable(RunnerError):
    """No connected worker has a free slot and the labels that were asked for."""


class DuplicateRun(RunnerError):
    """A run with this id is already known to the runner; ids are never reused."""
