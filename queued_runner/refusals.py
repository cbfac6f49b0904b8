"""What is wrong with a value, in words: a sentence in place of pydantic's own. Pure.

It owns the wording for every way in, over HTTP and in the library. It never repeats a value that
was sent: it may be a secret.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

NO_NUL: Final = r"^[^\x00]*$"
NO_CONTROLS: Final = r"^[^\x00-\x1f]*$"

_PATTERNS: Final = {
    NO_NUL: "it may not contain a NUL character",
    NO_CONTROLS: "it may not contain control characters",
}

MAX_ERRORS: Final = 20
"""Errors of one request that are shown."""

_WHOLE: Final = "it must be a whole number"
_SENTENCES: Final[Mapping[str, str | Callable[[Mapping[str, Any]], str]]] = {
    "missing": "this field is required",
    "string_type": "it must be text",
    "string_too_short": "it may not be empty",
    "string_too_long": lambda limits: f"it may have at most {limits['max_length']} characters",
    "string_pattern_mismatch": lambda limits: _PATTERNS[limits["pattern"]],
    "too_long": lambda limits: f"at most {limits['max_length']} entries are allowed",
    "tuple_type": "it must be a list",
    "list_type": "it must be a list",
    "dict_type": "it must be an object of names and values",
    "model_type": "it must be an object",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
}


def sentence(error: Mapping[str, Any], known_fields: Collection[str] = ()) -> str:
    """What is wrong, from one of pydantic's errors; a field that there is not may be a slip."""
    kind = error["type"]
    if kind == "extra_forbidden":
        return no_such("field", str(error["loc"][-1]), known_fields)
    words = _SENTENCES.get(kind)
    if words is None:
        message = str(error["msg"]).removeprefix("Value error, ")
        return message.replace("Input should be", "it must be")
    return words if isinstance(words, str) else words(error["ctx"])


def no_such(what: str, name: str, known: Collection[str]) -> str:
    """That there is no field or parameter of this name, and which one may have been meant."""
    close = difflib.get_close_matches(name.lower(), known, 1) if known else ()
    return f"there is no such {what}" + (f"; did you mean {close[0]!r}?" if close else "")


class Guesses:
    """How many slips of one request are guessed at: only what is shown is worth the time."""

    def __init__(self) -> None:
        self._left = MAX_ERRORS

    def take(self) -> bool:
        """Whether there is one left; it is taken."""
        self._left -= 1
        return self._left >= 0


def in_words(refusal: ValidationError, model: type[BaseModel], guesses: Guesses) -> ValidationError:
    """The same refusal of a `model`, with our sentences and the names of its fields."""
    return ValidationError.from_exception_data(
        refusal.title,
        list(_reworded(refusal.errors(include_url=False), model.model_fields, guesses)),
        hide_input=True,
    )


def _reworded(
    errors: Iterable[Mapping[str, Any]], known_fields: Collection[str], guesses: Guesses
) -> Iterable[InitErrorDetails]:
    for error in errors:
        place = error["loc"]
        words = sentence(error, known_fields if guesses.take() else ())
        if len(place) == 3 and place[2] == "[key]":  # the place of a name in an object
            place = place[:1]
            words = f"a name in it is not allowed: {words}"
        yield InitErrorDetails(type=PydanticCustomError("refused", words), loc=place, input=None)
