"""Sizes as people write them, in options of every command. Pure."""

import re
from typing import Final

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGT])(i?)B?|B)?", re.ASCII | re.IGNORECASE)
_POWER: Final = {"K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """`1000`, `64KiB`, `1.5G` → bytes; K, M, G, T count in 1024, `KB` to `TB` in 1000.

    Raises:
        ValueError: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 1000000, 64KiB or 1GiB")
    number, unit, binary = match.groups()
    if unit is None:
        return int(float(number))
    base = 1000 if match.group(0).upper().endswith("B") and not binary else 1024
    return int(float(number) * base ** _POWER[unit.upper()])
