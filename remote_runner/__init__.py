"""The protocol between runner and workers, its TCP server, and `RemoteRunner`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remote_runner.emitter import DuplexEmitter, Event
    from remote_runner.runner import RemoteRunner
    from remote_runner.server import ServerSettings
    from remote_runner.types import Command, JobRunner, Outcome, Output, Reason, WorkerInfo

__all__ = [
    "Command",
    "DuplexEmitter",
    "Event",
    "JobRunner",
    "Outcome",
    "Output",
    "Reason",
    "RemoteRunner",
    "ServerSettings",
    "WorkerInfo",
]

_MODULES = {
    "DuplexEmitter": "emitter",
    "Event": "emitter",
    "RemoteRunner": "runner",
    "ServerSettings": "server",
}


def __getattr__(name: str) -> Any:
    # Late, because a worker imports this package and has nothing of what the server needs.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'types')}"), name)
