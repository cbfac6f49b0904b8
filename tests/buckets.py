"""Storage that speaks S3, of the tests' own: a process on a free port, ended by its process id; and
a bucket in memory, for those that need no process.
"""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

from queued_runner.store.base import OutputAway

PATIENCE = 60.0
"""Seconds that it may take to be ready, on a machine that is busy with other tests."""
CLIENT = {
    "AWS_ACCESS_KEY_ID": "KEY-OF-TESTS",
    "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client needs in its environment, here: nothing of the user's."""


class Storage:
    """Buckets in the memory of a process, which may stand still for a while.

    Args:
        folder: for its log.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "moto.log"
        self._names = (f"bucket-{number}" for number in count(1))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
            )  # fmt: skip
        try:
            self.endpoint = self._wait_for_endpoint()
        except BaseException:
            self.close()
            raise

    def _wait_for_endpoint(self) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            said = self._log.read_text()
            found = re.search(r"Running on (http://127\.0\.0\.1:[0-9]+)", said)
            if found:
                return found[1]
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)

    def new_bucket(self) -> str:
        """The name of a bucket that nobody has used."""
        name = next(self._names)
        with self._client() as client:
            client.create_bucket(
                Bucket=name,
                CreateBucketConfiguration={"LocationConstraint": CLIENT["AWS_DEFAULT_REGION"]},
            )
        return name

    def url(self, bucket: str, prefix: str = "of/tests") -> str:
        """What a server is told."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"

    def keys(self, bucket: str) -> list[str]:
        """All objects that it has."""
        with self._client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Lay an object there."""
        with self._client() as client:
            client.put_object(Bucket=bucket, Key=key, Body=body)

    def stop(self) -> None:
        """Stand still: who asks is not answered."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, with all that it has."""
        self._process.kill()
        self._process.wait()

    def _client(self):
        from contextlib import closing

        import boto3

        session = boto3.session.Session(
            CLIENT["AWS_ACCESS_KEY_ID"], CLIENT["AWS_SECRET_ACCESS_KEY"],
            region_name=CLIENT["AWS_DEFAULT_REGION"],
        )  # fmt: skip
        return closing(session.client("s3", endpoint_url=self.endpoint))


class MemoryBucket:
    """What `Bucket` is, in memory; it goes away, or swallows its answers, when a test says so.

    Attributes:
        is_away: nothing arrives.
        swallows: what is put arrives, and nobody is told.
        late: what is put arrives with `arrive`, and nobody is told; None: it arrives at once.
    """

    place = "s3://memory/"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_away = False
        self.swallows = False
        self.late: list[tuple[str, bytes]] | None = None
        self.listed: list[str] = []

    def arrive(self) -> None:
        """What is on its way."""
        for name, body in self.late or ():
            self.objects[name] = body
        self.late = None

    def put(self, name, body, *, is_new=False):
        self._reach()
        data = body if isinstance(body, bytes) else body.read()
        if self.late is not None:
            self.late.append((name, data))
            raise OutputAway("no answer")
        self.objects[name] = data
        if self.swallows:
            raise OutputAway("no answer")

    def get(self, name, offset, size):
        self._reach()
        if name not in self.objects:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self.objects[name][offset : offset + size]

    def names(self, beginning, after=""):
        self._reach()
        self.listed.append(beginning)
        for name in sorted(self.objects):
            if name.startswith(beginning) and name > after:
                yield name, len(self.objects[name])

    def delete(self, names):
        self._reach()
        for name in names:
            self.objects.pop(name, None)

    def clear(self, beginnings):
        for beginning in beginnings:
            self.delete([name for name, _ in self.names(beginning)])

    def _reach(self) -> None:
        if self.is_away:
            raise OutputAway("memory does not answer")
