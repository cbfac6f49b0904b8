"""The protocol between runner and workers, its TCP server, and `RemoteRunner`."""

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
