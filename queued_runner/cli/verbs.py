"""Which verbs there are, where they live, and what the help says of them. It runs none."""

import importlib
from collections.abc import Mapping
from typing import Final

import click

VERBS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("queued_runner.cli.serve:serve", "Run the service: queue, workers' port, API."),
    "submit": ("queued_runner.cli.submit:submit", "Queue a command and print its id."),
    "run": ("queued_runner.cli.run:run", "Queue a command and stay until it ends."),
    "ps": ("queued_runner.cli.ps:ps", "List jobs, the newest first."),
    "show": ("queued_runner.cli.look:show", "Everything known of a job."),
    "logs": ("queued_runner.cli.logs:logs", "The output of a job."),
    "results": ("queued_runner.cli.results:results", "The files that a job left."),
    "wait": ("queued_runner.cli.wait:wait", "Wait until jobs have ended."),
    "cancel": ("queued_runner.cli.cancel:cancel", "End jobs."),
    "retry": ("queued_runner.cli.retry:retry", "Queue jobs that have ended once more."),
    "explain": ("queued_runner.cli.explain:explain", "Say why a job stands where it stands."),
    "prune": ("queued_runner.cli.prune:prune", "Delete jobs that ended long ago."),
    "workers": ("queued_runner.cli.look:workers", "List the connected workers."),
    "servers": ("queued_runner.cli.look:servers", "List the servers of the queue."),
    "drain": ("queued_runner.cli.drain:drain", "Start no more jobs at a worker."),
    "resume": ("queued_runner.cli.drain:resume", "Let a drained worker have jobs again."),
    "migrate": ("queued_runner.cli.migrate:migrate", "Bring a queue's tables to this release."),
    "export": ("queued_runner.cli.export:export", "Write a queue as lines of JSON."),
    "import": ("queued_runner.cli.import_:import_", "Fill an empty queue from an export."),
    "events": ("queued_runner.cli.events:events", "What happens, as lines of JSON."),
}
"""Each verb: where its command stands, and its line in the help (so that help loads nothing)."""


def load_verb(name: str) -> click.Command:
    """The command of a verb, imported now.

    Raises:
        KeyError: there is no such verb.
    """
    module, _, attribute = VERBS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command
