"""The settings of the service, and the rules between them. Pure: reads no file, no environment."""

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from queued_runner.jobs import JobState
from queued_runner.output_url import SCHEME, OutputURL, parse_output
from queued_runner.store.url import StoreURL, parse_store
from remote_runner.errors import UnusableSettings

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""The name of a server: it is part of ids, and of labels of figures."""


class UnsafeBind(UnusableSettings):
    """The service was asked to listen beyond this machine without credentials."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `serve` and `open_runner` can be told. Durations are seconds, sizes bytes.

    A port of 0 picks a free one; `http_port` and `json_port` may be None for "not at all".
    `agent_api`: agents may pull jobs over HTTP, those of this machine without a token.
    `drain`: jobs that run end before it does, instead of going on at their workers without it.
    Jobs that ended longer ago than `retention` are deleted, those that did not succeed after
    `keep_failed`; infinity: never.
    `cors_origins` are those (`https://ci.example`) whose pages may use the API.
    Output and results lie in `logs`, a folder or `s3://BUCKET/PREFIX`, which several servers may
    share; None: in `data_dir`.
    `runner` names the `JobRunner` that runs the jobs, `runner_options` are the keyword arguments
    that it is made with. `remote`, which listens for workers, has the options of this class.
    `store` is where the queue is kept, see `parse_store`; None: in the data directory.
    `server_name` is what people see of this server; None: a name that the data directory keeps.
    `processes` is how many servers share that store behind the same ports, and `process`, from 1,
    which of them this one is; None: the only one, or the one that keeps them.
    """

    data_dir: Path
    logs: Path | str | None = None
    host: str = "127.0.0.1"
    port: int | None = 8632
    http_host: str = "127.0.0.1"
    http_port: int | None = 8633
    cors_origins: tuple[str, ...] = ()
    json_port: int | None = None
    local_slots: int = 0
    allow_baseline: bool = True
    worker_token_file: Path | None = None
    detach: float = 120.0
    heartbeat: float = 10.0
    max_log_size: int = 1 << 30
    agent_api: bool = False
    max_results_size: int = 64 << 20
    drain: bool = False
    retention: float = 30 * 86_400.0
    keep_failed: float = 90 * 86_400.0
    runner: str = "remote"
    runner_options: Mapping[str, Any] = field(default_factory=dict)
    store: str | None = field(default=None, repr=False)
    server_name: str | None = None
    processes: int = 1
    process: int | None = None

    @property
    def own_dir(self) -> Path:
        """The folder of this server alone, inside the data directory that several may share."""
        if self.process is None:
            return self.data_dir
        return self.data_dir / "processes" / str(self.process)

    def store_url(self) -> StoreURL | None:
        """Where the queue is kept; None: in the data directory.

        Raises:
            UnusableSettings: what was said is no store.
        """
        return None if self.store is None else parse_store(self.store)

    @property
    def is_shared(self) -> bool:
        """Whether other servers may have the same store. Raises UnusableSettings."""
        url = self.store_url()
        return url is not None and url.is_shared

    def require_name(self) -> None:
        """Refuse a name of the server that could not be shown everywhere.

        Raises:
            UnusableSettings: which characters it may have.
        """
        if self.server_name is not None and NAME.fullmatch(self.server_name) is None:
            raise UnusableSettings(
                "--server-name has 1 to 64 of the characters A-Z a-z 0-9 . _ -, and not"
                f" {self.server_name!r}"
            )

    def require_shareable(self) -> None:
        """Refuse what several processes behind one port cannot do.

        Raises:
            UnusableSettings: why, and what to change.
        """
        if self.processes == 1:
            return
        if not self.is_shared:
            raise UnusableSettings(
                "--processes needs --store postgresql://…: a queue in a file of SQLite belongs to"
                " one process"
            )
        if self.agent_api:
            raise UnusableSettings(
                "--processes cannot be had with --agent-api: what agents have pulled is known to"
                " one process alone, and their next request may reach another; give them a server"
                " of their own on the same --store"
            )
        if self.local_slots or self.runner != "remote":
            raise UnusableSettings(
                "--processes divides the workers that connect; --local-slots, and another --runner"
                " than remote, are for a server that is one process"
            )

    @property
    def output_dir(self) -> Path:
        """The folder that holds those of output and results, where they lie in one."""
        is_here = self.logs is None or self.output_url() is not None
        return self.data_dir if is_here else Path(str(self.logs))

    def output_url(self) -> OutputURL | None:
        """Where output and results lie that are in no folder.

        Raises:
            UnusableSettings: what was said is no such place.
        """
        text = str(self.logs)
        return parse_output(text) if text.startswith(SCHEME) else None

    def kept_for(self) -> dict[JobState, float]:
        """For how long jobs are kept after their end, by state; those not named for ever.

        Raises:
            UnusableSettings: a time is none.
        """
        for option, seconds in (("retention", self.retention), ("keep_failed", self.keep_failed)):
            if not seconds > 0:
                raise UnusableSettings(
                    f"{option} must be more than 0 s, and not {seconds:g} s; infinity is for ever"
                )
        kept = {
            JobState.SUCCEEDED: self.retention,
            JobState.FAILED: self.keep_failed,
            JobState.CANCELLED: self.keep_failed,
        }
        return {state: seconds for state, seconds in kept.items() if seconds < math.inf}

    def require_safe(self) -> None:
        """Refuse what would let the network run commands here.

        Raises:
            UnsafeBind: an address is not loopback.
        """
        for option, address in (("--host", self.host), ("--http-host", self.http_host)):
            if not is_loopback(address):
                raise UnsafeBind(
                    f"{option} {address} would let other machines run commands here without"
                    f" encryption; use {option} 127.0.0.1 and reach it through an SSH tunnel"
                    " (TLS is not built in yet)"
                )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
