"""The persistent queue, its dispatcher, its HTTP API and its command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queued_runner.runner import QueuedRunner
    from queued_runner.service import open_runner

__all__ = ["QueuedRunner", "open_runner"]


def __getattr__(name: str) -> Any:
    # Late, because every client verb imports this package and must start at once.
    if name == "open_runner":
        from queued_runner.service import open_runner

        return open_runner
    if name == "QueuedRunner":
        from queued_runner.runner import QueuedRunner

        return QueuedRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
