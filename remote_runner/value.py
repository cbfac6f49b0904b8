"""`@value`: a frozen dataclass that is made in a fifth of the time.

Owns how small values are declared where many are made for every job. The type checker refuses to
change one; at run time nobody looks, since a frozen class sets each field through a call.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots, equal and hashed by its fields, which nobody changes."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
