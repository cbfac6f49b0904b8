"""A client without those parts of its HTTP library that it never uses, and that load slowest.

It owns that one saving. It is for processes that are a client verb and nothing else: a program that
uses the same library with trio or asyncio must not load it like this.
"""

import importlib
import sys
from typing import Final

UNUSED: Final = ("anyio", "trio")
"""What the library loads for its asynchronous half, if it is installed."""


def load_http() -> None:
    """Load the HTTP library as where trio is not installed; what is loaded already stays."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        importlib.import_module("httpcore2")
    finally:
        for name in hidden:
            del sys.modules[name]
