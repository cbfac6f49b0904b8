"""Why the service cannot start, as errors of this package."""

from remote_runner.errors import RunnerError


class DataDirUnusable(RunnerError):
    """The data directory belongs to another server, or cannot be written."""
