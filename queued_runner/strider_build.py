"""One job of Strider, which is five phases of commands: what it asks for, and what is known of it.

Pure: no clock, no emitter, no queue. `strider.py` runs it. The names of events and fields, and what
they hold, are Strider's own (strider-runner-core, strider-simple-runner, strider-custom).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from queued_runner.jobs import JobSpec
from remote_runner.types import StreamName

PHASES: Final = ("environment", "prepare", "test", "deploy", "cleanup")
CUSTOM: Final = "custom"
"""The plugin whose configuration has the commands of each phase; its runs are all that there is."""
OPTIONS: Final = (
    "cwd", "env", "needs", "priority", "timeout", "kill_signal", "kill_grace", "retries", "backoff",
    "max_backoff", "on_lost", "detach", "max_log_size", "slots",
)  # fmt: skip
"""Fields of a job of ours that `config.runner.config` may give; they hold for every phase."""
MAX_ID: Final = 128
SHOWN: Final = 2000
"""Characters of a command that are shown."""
KEPT: Final = 64 * 1024
KEPT_OF_A_COMMAND: Final = 8 * 1024
"""Characters of the output that `job.done` and `job.info` repeat, from its end."""


class NoBuild(ValueError):
    """This job cannot be run, and why."""


@dataclass(frozen=True, slots=True)
class Build:
    """What is to be run: the spec of each phase that has commands, in the order of `PHASES`."""

    id: str
    deploys: bool
    specs: Mapping[str, JobSpec]
    shown: Mapping[str, str]
    """The script of each phase, for people."""

    def after(self, phase: str, exit_code: int) -> str | None:
        """The phase that follows; None: it was the last."""
        if phase == "cleanup":
            return None
        following = PHASES[PHASES.index(phase) + 1]
        if exit_code != 0 or (following == "deploy" and not self.deploys):
            return "cleanup"
        return following


def read_id(job: object) -> str | None:
    """The `_id` of what came as a job; None: it has none that could be answered to."""
    found = job.get("_id") if isinstance(job, dict) else job
    is_id = isinstance(found, str) and 0 < len(found) <= MAX_ID and found.isprintable()
    return found if is_id else None  # type: ignore[return-value]


def read_build(build_id: str, job: Mapping[str, Any], config: Mapping[str, Any]) -> Build:
    """What `job.new(job, config)` asks for.

    Raises:
        NoBuild: its configuration asks for what there is not.
    """
    specs: dict[str, JobSpec] = {}
    shown: dict[str, str] = {}
    runner = _table(config.get("runner"), "config.runner")
    options = _table(runner.get("config"), "config.runner.config")
    for name in options:
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise NoBuild(f"config.runner.config has no option {name!r:.100}; it has {known}")
    for phase, argv in _commands(config).items():
        environment = {"PAAS_NAME": "strider", **_table(options.get("env"), "env")}
        try:
            specs[phase] = JobSpec.model_validate({
                **options,
                "command": argv[0],
                "args": argv[1:],
                "env": environment,
                "name": f"{phase} of {build_id}",
                "group": f"strider {build_id}",
                "key": f"strider {build_id} {phase}",
            })  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise NoBuild(f"{field}: {first['msg']}"[:SHOWN]) from None
        shown[phase] = argv[-1] if len(argv[-1]) <= SHOWN else argv[-1][:SHOWN] + " …"
    return Build(build_id, job.get("type") == "TEST_AND_DEPLOY", specs, shown)


def _commands(config: Mapping[str, Any]) -> dict[str, list[str]]:
    plugins = config.get("plugins")
    if not isinstance(plugins, list) or not plugins:
        raise NoBuild("No plugins configured. Aborting")
    found: dict[str, list[str]] = {}
    for item in plugins:
        plugin = _table(item, "a plugin")
        if plugin.get("enabled") is False:
            continue
        if plugin.get("id") != CUSTOM:
            raise NoBuild(f"Plugin required but not found: {plugin.get('id')!r:.100}")
        settings = _table(plugin.get("config"), "the plugin's config")
        shell = "bash" if "bash" in str(settings.get("shell")).lower() else "sh"
        for phase in PHASES:
            script = settings.get(phase)
            if isinstance(script, list) and all(isinstance(line, str) for line in script):
                script = "\n".join(script)
            if script is not None and not isinstance(script, str):
                raise NoBuild(f"the commands of the phase {phase!r} are no text")
            if script is not None and script.strip():
                found[phase] = [shell, "-e", "-x", "-c", script]
    return found


def _table(value: object, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NoBuild(f"{what} is no object")
    return value


class _Text:
    """The end of a text, of bounded size."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._text = ""
        self._left_out = 0

    def add(self, text: str) -> None:
        self._text += text
        surplus = len(self._text) - self._most
        if surplus > self._most:  # not each time: it copies
            self._left_out += surplus
            self._text = self._text[surplus:]

    def __str__(self) -> str:
        surplus = max(0, len(self._text) - self._most)
        left_out = self._left_out + surplus
        head = f"[{left_out} characters before this are left out]\n" if left_out else ""
        return head + self._text[surplus:]


class _Output:
    """Both streams, and how they came."""

    def __init__(self, most: int) -> None:
        self._texts = {name: _Text(most) for name in ("out", "err", "merged")}

    def add(self, stream: StreamName, text: str) -> None:
        self._texts["out" if stream == "stdout" else "err"].add(text)
        self._texts["merged"].add(text)

    def as_json(self) -> dict[str, str]:
        return {name: str(text) for name, text in self._texts.items()}


class BuildData:
    """All that is known of a build, as `job.info` and `job.done` tell it."""

    def __init__(self, build_id: str, now: float) -> None:
        self._id = build_id
        self._phase = PHASES[0]
        self._times: dict[str, str | None] = {
            "queued": iso(now), "started": None, "finished": None,
        }  # fmt: skip
        self._phases: dict[str, dict[str, Any]] = {
            phase: {"finished": None, "exitCode": -1, "commands": []} for phase in PHASES
        }
        self._std = _Output(KEPT)
        self._error: dict[str, str] | None = None

    def start(self, now: float) -> None:
        """The first command runs."""
        self._times["started"] = iso(now)

    @property
    def has_started(self) -> bool:
        return self._times["started"] is not None

    def start_command(self, started: Mapping[str, Any]) -> None:
        """A command has begun; `started` is what `job.status.command.start` says."""
        self._commands.append({**started, "output": _Output(KEPT_OF_A_COMMAND)})

    def add_output(self, stream: StreamName, text: str) -> None:
        """A piece of the output of the newest command."""
        self._std.add(stream, text)
        if self._commands:
            self._commands[-1]["output"].add(stream, text)

    def end_command(self, done: Mapping[str, Any]) -> None:
        """The newest command has ended, as `job.status.command.done` says."""
        self._commands[-1].update(
            finished=done["time"], duration=done["elapsed"], exitCode=done["exitCode"]
        )

    def end_phase(self, done: Mapping[str, Any]) -> None:
        """A phase is over, as `job.status.phase.done` says."""
        self._phases[done["phase"]].update(
            finished=done["time"], duration=done["elapsed"], exitCode=done["exitCode"]
        )
        if done["next"] is not None:
            self._phase = done["next"]

    def fail(self, message: str) -> None:
        """It cannot go on."""
        self._error = {"message": message}

    def finish(self, now: float) -> None:
        """It is over."""
        self._times["finished"] = iso(now)

    @property
    def _commands(self) -> list[dict[str, Any]]:
        commands: list[dict[str, Any]] = self._phases[self._phase]["commands"]
        return commands

    def as_json(self) -> dict[str, Any]:
        """The whole of it; of the output the end of what is long."""
        phases = {
            name: {**phase, "commands": [_with_output(item) for item in phase["commands"]]}
            for name, phase in self._phases.items()
        }
        data = {
            "id": self._id,
            **self._times,
            "phase": self._phase,
            "phases": phases,
            "test_status": phases["test"]["exitCode"],
            "deploy_status": phases["deploy"]["exitCode"],
            "std": self._std.as_json(),
            "warnings": [],
            "plugin_data": {},
        }
        if self._error is not None:
            data |= {"errored": True, "error": self._error}
        return data


def _with_output(command: Mapping[str, Any]) -> dict[str, Any]:
    output: _Output = command["output"]
    rest = {name: value for name, value in command.items() if name != "output"}
    return {**rest, **output.as_json()}


def without_output(data: dict[str, Any]) -> dict[str, Any]:
    """The same without the text of the output, which took more than one event may have."""
    empty = dict.fromkeys(("out", "err", "merged"), "")
    phases: dict[str, Any] = json.loads(json.dumps(data["phases"]))
    for phase in phases.values():
        for command in phase["commands"]:
            command.update(empty)
    return {**data, "phases": phases, "std": empty}


def iso(seconds: float) -> str:
    """A time as JavaScript writes a Date."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
