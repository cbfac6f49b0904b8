"""Many jobs out of one description: an index each, a line each, an object each. Pure.

It owns what becomes of an index, a line or an object, and where a job came from, for messages. What
a job may be is the server's affair.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from queued_runner.cli.json_objects import BadInput

INDEX: Final = "JOB_ARRAY_INDEX"
PLACE: Final = "{}"
MAX_LINE: Final = 131_072
"""Bytes: as many as an argument of a process may have."""

Job = dict[str, Any]
Origin = tuple[str, Job]
"""Where a job came from, in words, and the job."""


def of_indices(spec: Mapping[str, Any], indices: Iterable[int]) -> Iterator[Origin]:
    """The same job for each index, which it finds in its environment."""
    for index in indices:
        yield f"index {index}", _indexed(spec, index)


def of_lines(spec: Mapping[str, Any], lines: Iterable[tuple[int, str]]) -> Iterator[Origin]:
    """A job for each numbered line.

    `{}` in the command and its arguments is the line; where there is none it becomes the last
    argument. What goes through a shell is quoted for it: no line is obeyed as a command. The first
    job has the index 0.
    """
    words = [spec["command"], *spec.get("args", ())]
    has_place = any(PLACE in word for word in words)
    for index, (number, line) in enumerate(lines):
        value = shlex.quote(line) if spec.get("shell") else line
        filled = [word.replace(PLACE, value) for word in words] if has_place else [*words, value]
        job = {**spec, "command": filled[0], "args": filled[1:]}
        yield f"line {number}", _indexed(job, index)


def of_objects(
    spec: Mapping[str, Any], objects: Iterable[tuple[int, Mapping[str, Any]]]
) -> Iterator[Origin]:
    """A job for each object, with the line on which it begins; `spec` has what it leaves out.

    Variables and labels are left out one by one; arguments belong to their command.
    """
    for number, given in objects:
        job = {**spec, **given}
        if "command" in given and "args" not in given:
            job.pop("args", None)
        for name in ("env", "needs"):
            if name in spec and isinstance(given.get(name), dict):
                job[name] = {**spec[name], **given[name]}
        yield f"line {number}", job


def numbered_lines(raw_lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, without their ends, and their numbers from 1.

    Raises:
        BadInput: a line is too long, or not UTF-8.
    """
    for number, raw in enumerate(raw_lines, 1):
        if len(raw) > MAX_LINE:
            raise BadInput(
                f"line {number}: it has more than {MAX_LINE:,} bytes, and cannot be an argument"
            )
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"line {number}: it is not UTF-8, and cannot be an argument") from None
        line = line.removesuffix("\n").removesuffix("\r")
        if line:
            yield number, line


def _indexed(job: Mapping[str, Any], index: int) -> Job:
    return {**job, "env": {**job.get("env", {}), INDEX: str(index)}}
