"""What can go wrong between a client and its server: sentences that a person can act on."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class ClientError(Exception):
    """The message is a sentence, `exit_code` the status of a program that ends with it."""

    exit_code = 125


class Unreachable(ClientError):
    """No server answered; `was_sent`: it had the request, and may have done what it asks."""

    def __init__(self, message: str, *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class Refused(ClientError):
    """The server answered with an error; `problem` is all that it said of it."""

    def __init__(
        self, status: int, message: str, problem: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


class NotOurs(Refused):
    """What answered is another program, or a server with another token."""
