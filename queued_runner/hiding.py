"""What is told of a job with secrets (its `mask`), without them: wherever it leaves the server.

Pure: texts in, texts out. It owns how much is searched, and remembers the forms of the secrets that
came last; what they are, and where they stand in output, is `remote_runner/mask.py`'s.
"""

from functools import lru_cache
from typing import Any, Final

from remote_runner.mask import HIDDEN, Mask

ALL_OF_IT: Final = HIDDEN.decode()
MAX_SEARCHED: Final = 64 * 1024
"""Characters of a text; a longer one is hidden whole: nobody is to wait for the search of an input
of megabytes."""


def hide(value: Any, secrets: tuple[str, ...]) -> Any:
    """The same plain value without the secrets: in texts, in lists and objects of them, in keys."""
    if not secrets:
        return value
    search = _mask(secrets).hide

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            return search(value) if len(value) <= MAX_SEARCHED else ALL_OF_IT
        if isinstance(value, list):
            return [hidden(item) for item in value]
        if isinstance(value, dict):
            return {hidden(key): hidden(item) for key, item in value.items()}
        return value

    return hidden(value)


@lru_cache(maxsize=16)
def _mask(secrets: tuple[str, ...]) -> Mask:
    """Jobs of one list have the same ones, mostly."""
    return Mask(secrets)
