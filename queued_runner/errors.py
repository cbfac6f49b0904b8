"""Why the service cannot start or cannot do what was asked of it, as errors of this package."""

from remote_runner.errors import RunnerError


class DataDirUnusable(RunnerError):
    """The data directory belongs to another server, or cannot be written."""


class WorkerNotFound(RunnerError):
    """No worker with this id is connected, or known to be drained."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"there is no worker {worker_id}; `queued-runner workers` lists them")
        self.worker_id = worker_id


class WorkerLeaves(RunnerError):
    """The worker drains by itself, and takes no jobs whatever the server says."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"worker {name} was told to stop where it runs and leaves when its jobs have ended: it"
            " cannot be resumed; start it again"
        )


class TransferRefused(RunnerError):
    """A queue cannot be exported or imported as it is."""
