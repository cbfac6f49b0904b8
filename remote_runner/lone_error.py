"""An error that is alone in its groups comes out as itself.

Owns how errors leave the context managers of the library: a nursery in them is nobody's business
but their own, and `except ValueError` around one means what it says.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lone_error() -> Iterator[None]:
    """Unwrap the one exception of nested groups; several stay in theirs."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        if isinstance(error, BaseExceptionGroup):
            raise
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # and not the group
