"""A part of a bucket in storage that speaks S3: objects by name, in calls that block.

Owns its client, and what its errors mean. Credentials, region and endpoint come from where that
client looks for them, and are never shown. May be used in several threads.
"""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from queued_runner.output_url import OutputURL
from queued_runner.store.base import OutputAway
from remote_runner.errors import UnusableSettings

LANES: Final = 8
"""Requests at once, where there are many to make: each mostly waits."""
CONNECT: Final = 5.0
ANSWER: Final = 20.0
"""Seconds after which a connection, or an answer, is not waited for any more."""
TRIES: Final = 2
"""Of one request, by the client itself. Whoever has something to store goes on after that."""
MAX_DELETED: Final = 1000
"""Objects that one request may name."""
_TALKATIVE: Final = ("boto3", "botocore", "urllib3")
"""Loggers that would tell of each request, with the tokens in its headers."""
_GONE: Final = frozenset({"NoSuchKey", "404"})
_BEHIND_THE_END: Final = "InvalidRange"
_TOO_FAST: Final = frozenset({408, 429})


class OutputRefused(OutputAway):
    """The storage answers, and says no."""


class Bucket:
    """The objects whose names begin as `url` says; names are given without that.

    All verbs raise OutputAway where there is no answer, or the answer is no.

    Raises:
        UnusableSettings: the client cannot be made of what it is set to.
    """

    def __init__(self, url: OutputURL) -> None:
        self._bucket = url.bucket
        self._prefix = url.prefix
        self.place = url.shown
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        config = Config(
            connect_timeout=CONNECT,
            read_timeout=ANSWER,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            max_pool_connections=2 * LANES,
        )
        try:
            self._client = boto3.session.Session().client(
                "s3", endpoint_url=url.endpoint, config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise UnusableSettings(f"the storage of output at {self.place}: {error}") from error

    def close(self) -> None:
        """Let its connections go."""
        self._client.close()

    def put(self, name: str, body: bytes | BinaryIO, *, is_new: bool = False) -> None:
        """Make an object; it is durable then. With `is_new` one that is there may be kept."""
        condition = {"IfNoneMatch": "*"} if is_new else {}
        with self._told():
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + name, Body=body, **condition
            )

    def get(self, name: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; empty behind its end.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._told():
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket,
                    Key=self._prefix + name,
                    Range=f"bytes={offset}-{offset + size - 1}",
                )
            except ClientError as error:
                if _code(error) == _BEHIND_THE_END:
                    return b""
                raise
            with answer["Body"] as body:
                data: bytes = body.read()
        return data

    def names(self, beginning: str, after: str = "") -> Iterator[tuple[str, int]]:
        """Objects whose names begin so, and come after that one; in order, with their sizes."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._prefix + beginning,
            **({"StartAfter": self._prefix + after} if after else {}),
        )
        with self._told():
            for page in pages:
                for each in page.get("Contents", ()):
                    yield each["Key"].removeprefix(self._prefix), each["Size"]

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects, whether they are there or not."""
        for start in range(0, len(names), MAX_DELETED):
            some = names[start : start + MAX_DELETED]
            with self._told():
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={
                        "Objects": [{"Key": self._prefix + name} for name in some], "Quiet": True,
                    },
                )  # fmt: skip
            for error in answer.get("Errors", ()):
                raise OutputRefused(f"{self.place} cannot be deleted from: {error['Code']}")

    def clear(self, beginnings: Sequence[str]) -> None:
        """Delete all objects whose names begin so."""
        with ThreadPoolExecutor(LANES) as pool:
            for names in pool.map(lambda beginning: list(self.names(beginning)), beginnings):
                self.delete([name for name, _ in names])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the client as those of ours."""
        try:
            yield
        except ClientError as error:
            code = _code(error)
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if code in _GONE:
                gone = os.strerror(errno.ENOENT)
                raise FileNotFoundError(errno.ENOENT, gone, self.place) from error
            is_no = 400 <= status < 500 and status not in _TOO_FAST
            kind = OutputRefused if is_no else OutputAway
            raise kind(f"{self.place} answers {code or status}") from error
        except (HTTPClientError, ConnectionError) as error:
            raise OutputAway(f"{self.place} does not answer: {error}") from error
        except BotoCoreError as error:
            raise OutputRefused(f"{self.place} cannot be used: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
