"""Times, sizes and ends as people say them. Pure: what time it is now comes from who asks."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_WHY: Final = {
    "timeout": "it took longer than its timeout",
    "worker-lost": "its worker was lost, and it was not to be tried again",
    "abandoned": "its worker was out of reach for too long, and it was not to be tried again",
    "quarantined": "its worker was lost again and again while it ran",
    "dependency": "a job that it came after did not succeed",
}
_RATES: Final = {"s": 1, "min": 60, "h": 3600}


def duration(seconds: float) -> str:
    """`0.25 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 9.995:
        return f"{max(0.0, seconds):.2f}".rstrip("0").rstrip(".") + " s"
    left = round(seconds)
    for (unit, size), (smaller, part) in zip(_UNITS, _UNITS[1:], strict=False):
        if left >= size:
            rest = left % size // part
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"


def ago(time: str | None, now: datetime) -> str:
    """How long before `now` a time of the API was: `just now`, `12 s ago`, `3 min ago`."""
    if time is None:
        return "-"
    seconds = (now - datetime.fromisoformat(time)).total_seconds()
    if seconds < 1:
        return "just now"
    unit, size = next((unit, size) for unit, size in _UNITS if seconds >= size)
    return f"{int(seconds // size)} {unit} ago"


def took(item: Mapping[str, Any], now: datetime) -> str:
    """How long a job or an attempt took, or has been running."""
    if item["started_at"] is None:
        return "-"
    end = now
    if item["finished_at"] is not None:
        end = datetime.fromisoformat(item["finished_at"])
    elif item.get("state") == "queued":  # it waits for its next attempt
        return "-"
    return duration((end - datetime.fromisoformat(item["started_at"])).total_seconds())


def size(count: int) -> str:
    """`0 B`, `812 B`, `1.4 MiB`."""
    if count < 1024:
        return f"{count} B"
    fitting = (unit for unit, whole in _SIZES.items() if count / whole < 1023.95)
    unit = next(fitting, "TiB")
    return f"{count / _SIZES[unit]:.1f} {unit}"


def rate(a_second: float) -> str:
    """`120/s`, `2.5/s`, `12/min`, `3/h`."""
    unit = next((unit for unit, seconds in _RATES.items() if a_second * seconds >= 1), "h")
    value = a_second * _RATES[unit]
    return f"{value:.0f}/{unit}" if value >= 10 else f"{value:.1f}".removesuffix(".0") + f"/{unit}"


def why(job: Mapping[str, Any]) -> str | None:
    """Why a job did not succeed, in a sentence; None where it did, or has not ended."""
    if job["state"] == "cancelled":
        return "it was cancelled"
    if job["state"] != "failed":
        return None
    if job["reason"] == "exit":
        return f"the command ended with exit code {job['exit_code']}"
    if job["reason"] == "signal":
        return f"the command was ended by {job['signal']}"
    if job["reason"] == "spawn-error":
        what = "was not found" if job["exit_code"] == 127 else "cannot be executed"
        return f"the command {what} at the worker; its output says more"
    return _WHY.get(job["reason"])


def counted(counts: Mapping[str, int]) -> str:
    """`3 running, 1 failed`: what there is of each."""
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
