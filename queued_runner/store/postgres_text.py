"""Text that PostgreSQL cannot hold, a NUL or half of a surrogate pair, as text that it can.

A worker may be named so; a job may not. The escape is undone at reading, so that nothing is lost
and what differs goes on to differ. Pure.
"""

import re
from typing import Any, Final

from psycopg.adapt import Buffer
from psycopg.types.string import StrDumper, TextLoader

_MARK: Final = "\ufffe"
"""No character, and never will be: what holds it is rare, and escaped too."""
_UNSTORABLE: Final = re.compile(f"[\0\ud800-\udfff{_MARK}]")
_ESCAPED: Final = re.compile(f"{_MARK}([0-9a-f]{{4}})")


def escape(text: str) -> str:
    return _UNSTORABLE.sub(lambda found: f"{_MARK}{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if _MARK in text else text


class EscapingDumper(StrDumper):
    """Sends text to the database."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(escape(obj))


class UnescapingLoader(TextLoader):
    """Gets text from the database."""

    def load(self, data: Buffer) -> Any:
        return unescape(str(super().load(data)))
