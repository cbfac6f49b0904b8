"""The records of the queue: what a user asks for (`JobSpec`), what is known of it (`Job`).

Pure data and its validation; no clock, no store, no I/O. Times are UNIX seconds (wall clock, only
shown, never used for a lease), durations seconds, sizes bytes.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from queued_runner.refusals import NO_CONTROLS, NO_NUL, Guesses, in_words
from remote_runner.mask import MAX_SECRETS, MAX_SECRETS_SIZE, MIN_SECRET
from remote_runner.signals import signal_number
from remote_runner.types import WIDEST, Command, all_needs
from remote_runner.value import value

Text = Annotated[str, StringConstraints(max_length=131_072, pattern=NO_NUL)]
"""An argument or variable: Linux allows 128 KiB in one string, and no NUL."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_CONTROLS)]


def _is_signal(name: str) -> str:
    if signal_number(name) is None:
        raise ValueError(f"{name!r} is not a signal; write SIGTERM, SIGINT or SIGKILL")
    return name


SignalName = Annotated[str, AfterValidator(_is_signal)]
"""A signal that this machine knows, the real-time ones included: `SIGRTMIN+3`."""


def _can_be_hidden(secret: str) -> str:
    if len(secret.strip().encode("utf-8", "replace")) < MIN_SECRET:
        raise ValueError(
            f"a secret of less than {MIN_SECRET} bytes cannot be hidden: it stands everywhere; use"
            " a longer one"
        )
    return secret


Secret = Annotated[Text, AfterValidator(_can_be_hidden)]
"""Text that is never shown."""

MAX_ARGS = 1024
"""As many as one event of the wire protocol carries."""
MAX_COMMAND = 1_000_000
"""Bytes as JSON of all that goes to a worker in one event; the protocol's own limit is 1 MiB."""
MAX_STDIN = 4 * 1024 * 1024
MAX_PRIORITY = 1_000_000
MAX_SECONDS = 10 * 365 * 86_400.0
MAX_AFTER = 10_000
"""As many as one list of jobs has: what comes after all of an array is one job."""
MAX_JOB_ID = (1 << 63) - 1


def _is_reference(value: object) -> int | str:
    if isinstance(value, str) and 0 < len(value) <= 256:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_JOB_ID:
        return value
    raise ValueError("it must be the id of a job, a number, or the key of one, a text")


Reference = Annotated[int | str, BeforeValidator(_is_reference)]
"""Another job, by its id or its key."""


class JobState(StrEnum):
    """Where a job stands. `lifecycle.py` owns the moves between them."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Base64(BaseModel):
    """Bytes inside JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    base64: str

    @field_validator("base64")
    @classmethod
    def _is_base64(cls, value: str) -> str:
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"not base64: {error}") from error
        return value


Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]


@value
class Limits:
    """What the server has for all jobs, and a job may have of its own. Seconds and bytes."""

    detach: float = 120.0
    max_log_size: int = 1 << 30
    max_results_size: int = 64 << 20


class JobSpec(BaseModel):
    """A job as it is sent. Unknown fields are refused by name.

    `detach`, `max_log_size`, `max_results_size`: None stands for the server's. `after` are the jobs
    that must have succeeded before this one starts. `slots` are how many of one worker's it takes,
    all at once. `mask`: secrets, which are `***` in the output
    and wherever the job is shown; `env` and `mask` stay out of its repr.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    command: Annotated[Text, Field(min_length=1)]
    args: tuple[Text, ...] = Field(default=(), max_length=MAX_ARGS)
    name: Name | None = None
    group: Name | None = None
    key: Name | None = None
    cwd: Annotated[Text, Field(min_length=1)] | None = None
    env: dict[Text, Text] = Field(default_factory=dict, max_length=256, repr=False)
    shell: bool | Annotated[Text, Field(min_length=1)] = False
    stdin: str | Base64 | None = None
    priority: int = Field(default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    timeout: Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)] | None = None
    kill_signal: SignalName = "SIGTERM"
    kill_grace: Seconds = 10.0
    retries: int = Field(default=0, ge=0, le=1000)
    backoff: Seconds = 1.0
    max_backoff: Seconds = 300.0
    on_lost: Literal["retry", "fail"] = "retry"
    detach: Annotated[float, Field(ge=1, le=MAX_SECONDS, allow_inf_nan=False)] | None = None
    needs: dict[Name, Text] = Field(default_factory=dict, max_length=32)
    slots: int = Field(default=1, ge=1, le=WIDEST)
    after: tuple[Reference, ...] = Field(default=(), max_length=MAX_AFTER)
    delay: Seconds = 0.0
    max_log_size: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    max_results_size: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    mask: tuple[Secret, ...] = Field(default=(), max_length=MAX_SECRETS, repr=False)

    @field_validator("env")
    @classmethod
    def _has_names(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if not name or "=" in name:
                raise ValueError(f"{name!r} is not the name of a variable")
        return env

    @field_validator("shell", mode="wrap")
    @classmethod
    def _is_shell(cls, value: object, handler: ValidatorFunctionWrapHandler) -> bool | str:
        try:
            shell: bool | str = handler(value)
        except ValidationError:
            raise ValueError("it must be true, false or the path of a shell") from None
        return shell

    @field_validator("stdin", mode="wrap")
    @classmethod
    def _is_input(cls, value: object, handler: ValidatorFunctionWrapHandler) -> str | Base64 | None:
        try:
            stdin: str | Base64 | None = handler(value)
        except ValidationError:
            if isinstance(value, dict) and value.keys() == {"base64"}:
                return Base64.model_validate(value)  # its own refusal says more
            raise ValueError("it must be text or an object {'base64': TEXT}") from None
        return stdin

    @field_validator("stdin")
    @classmethod
    def _is_small(cls, stdin: str | Base64 | None) -> str | Base64 | None:
        size = len(stdin.encode("utf-8", "replace")) if isinstance(stdin, str) else 0
        if isinstance(stdin, Base64):
            size = len(stdin.base64) // 4 * 3 - stdin.base64[-2:].count("=")
        if size > MAX_STDIN:
            raise ValueError(f"stdin is limited to {MAX_STDIN} bytes; put larger input in a file")
        return stdin

    @field_validator("mask")
    @classmethod
    def _is_not_huge(cls, mask: tuple[str, ...]) -> tuple[str, ...]:
        if sum(len(secret.encode("utf-8", "replace")) for secret in mask) > MAX_SECRETS_SIZE:
            raise ValueError(
                f"the secrets have {MAX_SECRETS_SIZE:,} bytes together at most; hide the parts that"
                " tell something"
            )
        return mask

    @model_validator(mode="after")
    def _fits_one_event(self) -> Self:
        parts = [self.command, *self.args, self.cwd or "", *self.env, *self.env.values()]
        parts += self.mask
        if isinstance(self.shell, str):
            parts.append(self.shell)
        # A character takes six bytes at most: nearly every job is known to fit without a look.
        if 6 * sum(map(len, parts)) > MAX_COMMAND:
            if len(json.dumps(parts, ensure_ascii=False).encode()) > MAX_COMMAND:
                raise ValueError(
                    f"command, args, env, cwd and shell have {MAX_COMMAND:,} bytes together at"
                    " most; put what is large in a file, or give it as stdin"
                )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _says_it_in_words(
        cls, value: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """The context of a validation is the `Guesses` that all its jobs share, if it has one."""
        try:
            return handler(value)
        except ValidationError as error:
            raise in_words(error, cls, info.context or Guesses()) from None

    @property
    def all_needs(self) -> Mapping[str, str]:
        """What its worker must have: what it asks for, and that its secrets can be hidden there."""
        return all_needs(self.needs, self.mask)

    def stdin_bytes(self) -> bytes | None:
        """The input of the process, or None for /dev/null."""
        if isinstance(self.stdin, Base64):
            return base64.b64decode(self.stdin.base64)
        return None if self.stdin is None else self.stdin.encode()

    def limits(self, default: Limits) -> Limits:
        """The job's own limits; `default` where it names none."""
        return Limits(
            detach=default.detach if self.detach is None else self.detach,
            max_log_size=default.max_log_size if self.max_log_size is None else self.max_log_size,
            max_results_size=default.max_results_size
            if self.max_results_size is None
            else self.max_results_size,
        )

    def to_command(self, extra_env: Mapping[str, str], limits: Limits) -> Command:
        """What a runner executes; `extra_env` (the `JOB_` variables) wins over the job's own."""
        return Command(
            command=self.command,
            args=self.args,
            cwd=self.cwd,
            env={**self.env, **extra_env},
            shell=self.shell,
            stdin=self.stdin_bytes(),
            timeout=self.timeout,
            kill_signal=self.kill_signal,
            kill_grace=self.kill_grace,
            max_output=limits.max_log_size,
            detach=limits.detach,
            max_results=limits.max_results_size,
            mask=self.mask,
            slots=self.slots,
        )


@value
class Job:
    """Everything the queue knows of a job; times are UNIX seconds."""

    id: int
    spec: JobSpec
    state: JobState
    reason: str | None
    exit_code: int | None
    signal: str | None
    attempt: int
    worker: str | None
    worker_id: str | None
    worker_boot: str | None
    created_at: float
    run_after: float
    started_at: float | None
    finished_at: float | None
    cancel_requested: bool
    failures: int
    losses: int
    log_bytes: int
    log_dropped: int
    after: tuple[int, ...] = ()
    """The jobs that must have succeeded before it starts."""
    waits_for: int = 0
    """How many of these have not succeeded yet."""
    is_awaited: bool = False
    """Whether others wait for it, or have waited."""
    server: str | None = None
    """The server that has its running attempt; None: nobody."""
    handovers: int = 0
    """How often another server has taken that over."""
    cancel_signal: str | None = None
    cancel_grace: float | None = None
    """Seconds. How somebody wants it to end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job, numbered from 1. `(job_id, number)` fences every write about it."""

    job_id: int
    number: int
    worker: str | None
    started_at: float
    finished_at: float | None
    reason: str | None
    exit_code: int | None
    signal: str | None
    duration: float | None
    max_rss: int | None
    cpu_time: float | None
    log_bytes: int
    log_dropped: int


def attempt_id(job_id: int, number: int) -> str:
    """The id of an attempt on the wire: `"42.1"`."""
    return f"{job_id}.{number}"


def parse_attempt_id(text: str) -> tuple[int, int] | None:
    """The job and attempt of a wire id, or None if it is not one of ours, as `007.1` is none."""
    job, dot, number = text.partition(".")
    if not dot or not (job.isascii() and job.isdigit() and number.isascii() and number.isdigit()):
        return None
    if len(job) > 18 or len(number) > 9:
        return None
    found = int(job), int(number)
    return found if attempt_id(*found) == text else None
