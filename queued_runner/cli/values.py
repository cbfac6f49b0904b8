"""Values of options: durations, sizes, pairs, signals, origins, from text to what is meant. Pure.

It owns which spellings are understood; what a value means is the option's own affair.
"""

import math
import re
from typing import Any, Final

import click

from remote_runner.signals import signal_name, signal_number
from remote_runner.sizes import parse_size

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[dhms]))+", re.ASCII)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])", re.ASCII)
_SECONDS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ORIGIN = re.compile(
    r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", re.ASCII | re.IGNORECASE
)
_DEFAULT_PORT: Final = {"http": "80", "https": "443"}


class Folder(click.Path):
    """A folder that has a name: an empty one would be the current folder, and is a mistake."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; name a folder, or leave the option out", param, ctx)
        return super().convert(value, param, ctx)


def parse_duration(text: str) -> float:
    """`90`, `90s`, `15m`, `1h30m`, `500ms`, `2d` → seconds.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write 90, 90s, 15m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def parse_signal(text: str) -> str:
    """`TERM`, `sigterm`, `15` → `SIGTERM`.

    Raises:
        ValueError: there is no such signal.
    """
    name = text.strip().upper()
    if name.isascii() and name.isdigit() and len(name) < 4:
        name = signal_name(int(name))
    name = name if name.startswith("SIG") else f"SIG{name}"
    if signal_number(name) is None:
        raise ValueError(f"{text!r} is not a signal; write TERM, INT or KILL")
    return name


def parse_origin(text: str) -> str:
    """`https://CI.example:443/` → `https://ci.example`, as a browser writes the origin of a page.

    Raises:
        ValueError: it is no origin, or one of more than one page (`*`, `null`).
    """
    match = _ORIGIN.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not an origin; write https://ci.example or http://localhost:3000"
        )
    scheme, host, port = (part and part.lower() for part in match.groups())
    return f"{scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORT[scheme] else "")


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, from a duration."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            if isinstance(value, int | float) and value >= 0:
                return float(value)
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Keeping(click.ParamType):  # type: ignore[type-arg]
    """Seconds for which something is kept, from a duration; infinite for `never` to be deleted."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        if text.lower() == "never":
            return math.inf
        try:
            seconds = parse_duration(text)
        except ValueError:
            self.fail(f"{text!r} is not a duration; write 30d or 12h, or never", param, ctx)
        if seconds == 0:  # all at once, or never?
            self.fail("0 could mean both; write never, or a short time as 1m", param, ctx)
        return seconds


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes, from a size."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        try:
            return value if isinstance(value, int) and value >= 0 else parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Pair(click.ParamType):  # type: ignore[type-arg]
    """A key and a value, from `KEY=VALUE`."""

    name = "key=value"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return str(value[0]), str(value[1])
        key, separator, rest = str(value).partition("=")
        if not separator or not key:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, rest


class Signal(click.ParamType):  # type: ignore[type-arg]
    """The name of a signal."""

    name = "signal"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            return parse_signal(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Origin(click.ParamType):  # type: ignore[type-arg]
    """The origin of a page, as a browser writes it."""

    name = "url"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            return parse_origin(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()
KEEPING = Keeping()
SIZE = Size()
PAIR = Pair()
SIGNAL = Signal()
ORIGIN = Origin()
