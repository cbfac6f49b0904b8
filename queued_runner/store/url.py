"""Where the queue is kept, as people write it: `sqlite:///PATH` or `postgresql://…`. Pure.

Owns that no password of it is shown to anybody. Nothing here opens a store.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from remote_runner.errors import UnusableSettings

_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = re.compile(
    r"(?P<scheme>postgres(?:ql)?://)"
    r"(?:(?P<user>[^:@/?#]*)(?P<password>:[^/]*)?@)?"
    r"(?P<hosts>[^@/?#]*)"
    r"(?P<path>/[^?#]*)?"
    r"(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:]*)(?::[0-9]*)?")
_SECRET: Final = {"password", "sslpassword"}
"""Parameters of libpq that are secrets themselves; `passfile` only says where one lies."""


@dataclass(frozen=True, slots=True)
class StoreURL:
    """A store that was asked for: a file of SQLite at `path`, or a PostgreSQL database.

    `url` may hold a password, and is for the driver alone; `shown` never does.
    """

    url: str = field(repr=False)
    shown: str
    path: Path | None = None

    @property
    def is_shared(self) -> bool:
        """Whether several servers may use it at once."""
        return self.path is None

    @property
    def has_password(self) -> bool:
        """Whether the text itself opens the database, for whoever reads it."""
        return self.url != self.shown


def parse_store(text: str) -> StoreURL:
    """The store in a text. `sqlite:///state/queue.db` is relative, `sqlite:////var/q.db` is not.

    Raises:
        UnusableSettings: it is none; the message does not repeat it, for there may be a password
            in it.
    """
    if text.startswith(_SQLITE):
        path = text.removeprefix(_SQLITE)
        if not path or "\0" in path or "?" in path:
            raise UnusableSettings("the store sqlite:/// needs the path of a file, without a '?'")
        return StoreURL(text, text, Path(path))
    found = _POSTGRES.fullmatch(text)
    if found is None or not all(_HOST.fullmatch(host) for host in found["hosts"].split(",")):
        raise UnusableSettings(
            "the store is sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE; in a URL, write"
            " %40, %3A and %2F for @, : and / where they belong to a name or a password"
        )
    return StoreURL(text, _without_password(found))


def _without_password(found: re.Match[str]) -> str:
    user = "" if found["user"] is None else f"{found['user']}@"
    shown = f"{found['scheme']}{user}{found['hosts']}{found['path'] or ''}"
    if found["query"] is None:
        return shown
    parts = found["query"].split("&")
    kept = [part for part in parts if unquote(part.partition("=")[0]).strip() not in _SECRET]
    return f"{shown}?{'&'.join(kept)}" if kept else shown
