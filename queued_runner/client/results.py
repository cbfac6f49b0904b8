"""Fetching the files that a job left: each streamed into its place, whole or not at all.

It owns where files go below a folder. What a server says of a name is checked here too: no name
leads out of the folder.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import httpx2

from queued_runner.client.api import Client, Json
from queued_runner.client.errors import ClientError
from remote_runner.results import name_problem


def list_results(client: Client, job_id: int, attempt: int | None) -> tuple[list[Json], int]:
    """The files that an attempt (None: the newest) left, and how many were left out."""
    response = client.respond("GET", _path(job_id), params={"attempt": attempt})
    try:
        files = [{"name": str(each["name"]), "size": int(each["size"])} for each in response.json()]
        return files, int(response.headers["x-results-left-out"])
    except (KeyError, ValueError, TypeError):
        raise client.not_understood() from None


def list_left_out(client: Client, job_id: int, attempt: int | None) -> list[Json]:
    """What of it is no result, with its `name` and `why`; not all, where there is much of it."""
    params = {"attempt": attempt, "left_out": 1}
    rows: list[Json] = client.request("GET", _path(job_id), params=params)
    return rows


def fetch_result(client: Client, job_id: int, attempt: int | None, name: str, into: Path) -> Path:
    """Fetch one file; the path that it has now, below `into`. One that is there is replaced.

    Raises:
        ClientError: it cannot be fetched or written, or its name is none for a file.
    """
    problem = name_problem(name)
    if problem is not None:
        raise ClientError(f"The server has a result that is not fetched: {problem}.")
    path = into / name
    part = path.with_name(f".part-{os.urandom(8).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            try:
                _fetch(client, job_id, attempt, name, file)
                file.flush()
                part.replace(path)
            except BaseException:
                part.unlink()
                raise
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}.") from None
    return path


def _fetch(client: Client, job_id: int, attempt: int | None, name: str, file: IO[bytes]) -> None:
    """Fetch it from its beginning, again where the server went away meanwhile."""
    while True:
        file.seek(0)
        file.truncate()
        try:
            for data in _stream(client, job_id, attempt, name):
                file.write(data)
            client.progress()
            return
        except httpx2.TransportError as failure:
            error: ClientError = client.unreachable(failure)
        except ClientError as refusal:
            error = refusal
        if not client.is_passing(error):
            raise error
        client.retry(error)


def _stream(client: Client, job_id: int, attempt: int | None, name: str) -> Iterator[bytes]:
    params = {} if attempt is None else {"attempt": attempt}
    path = f"{_path(job_id)}/{quote(name, safe='/')}"
    with client.http.stream("GET", path, params=params) as response:
        client.check(response)
        yield from response.iter_raw()


def _path(job_id: int) -> str:
    return f"/api/v1/jobs/{job_id}/results"
