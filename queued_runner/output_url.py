"""Where output lies that is in no folder, as people write it: `s3://BUCKET/PREFIX`. Pure.

Owns that nobody's secret stands in it. Nothing here reaches a bucket.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from remote_runner.errors import UnusableSettings

SCHEME: Final = "s3://"
_FORM: Final = re.compile(
    r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]+)"
    r"(?:/(?P<prefix>[^?#]*))?"
    r"(?:\?endpoint=(?P<endpoint>[^&#]+))?"
)
_ENDPOINT: Final = re.compile(r"https?://[^/?#@\s]+(?:/[^?#@\s]*)?")


@dataclass(frozen=True, slots=True)
class OutputURL:
    """A place in a bucket: `prefix` is empty, or ends in a slash. `endpoint` is where the storage
    answers; None: what its client is set to."""

    bucket: str
    prefix: str
    endpoint: str | None = None

    @property
    def shown(self) -> str:
        """As people write it."""
        return f"{SCHEME}{self.bucket}/{self.prefix}"


def parse_output(text: str) -> OutputURL:
    """The place in a text.

    Raises:
        UnusableSettings: it is none; the message does not repeat it, for it may hold a secret.
    """
    found = _FORM.fullmatch(text)
    endpoint = unquote(found["endpoint"]) if found and found["endpoint"] else None
    if found is None or (endpoint is not None and _ENDPOINT.fullmatch(endpoint) is None):
        raise UnusableSettings(
            "output lies in a folder, or in s3://BUCKET/PREFIX?endpoint=https://HOST:PORT, of which"
            " the end may be left out; keys never stand in it: they come from AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or from the files that AWS_PROFILE chooses in"
        )
    prefix = (found["prefix"] or "").strip("/")
    return OutputURL(found["bucket"], f"{prefix}/" if prefix else "", endpoint)
