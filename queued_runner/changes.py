"""Who reads of a job is woken when something has changed, on whichever server of the queue it was.

Owns the events that readers here wait for, and what the other servers are told.
"""

from weakref import WeakValueDictionary

import trio

from queued_runner.hints import Hint, Hints, Kind


class Changes:
    """What changes, as it is told here and to the other servers.

    Args:
        hints: to these.
    """

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._events: WeakValueDictionary[int, trio.Event] = WeakValueDictionary()

    def of(self, job_id: int) -> trio.Event:
        """Set when an attempt of the job begins or ends, or the job does. Take it before reading.

        It is remembered for as long as somebody holds it.
        """
        event = self._events.get(job_id)
        if event is None:
            event = self._events[job_id] = trio.Event()
        return event

    def tell(self, job_id: int) -> None:
        """A job has changed."""
        self._hints.send(Hint(Kind.JOB, job_id))
        self.tell_here(job_id)

    def tell_here(self, job_id: int) -> None:
        """Another server says that a job has changed, or its output has grown there."""
        event = self._events.pop(job_id, None)
        if event is not None:
            event.set()

    def tell_all_here(self) -> None:
        """Whatever others said of any job may have been missed."""
        for job_id in list(self._events):
            self.tell_here(job_id)

    def ask_for_output(self, job_id: int) -> None:
        """Somebody here follows a job that another server has."""
        self._hints.send(Hint(Kind.WANTED, job_id))

    def tell_grown(self, job_id: int, attempt: int) -> None:
        """There is more output of an attempt that somebody follows elsewhere."""
        self._hints.send(Hint(Kind.GROWN, job_id))

    def tell_drains(self) -> None:
        """Which workers are drained has changed."""
        self._hints.send(Hint(Kind.DRAINS))

    def tell_work(self) -> None:
        """There may be something to claim for others."""
        self._hints.send(Hint(Kind.WORK))
