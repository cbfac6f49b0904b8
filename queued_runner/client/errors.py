"""What can go wrong between a client and its server: sentences that a person can act on."""


class ClientError(Exception):
    """The message is a sentence, `exit_code` the status of a program that ends with it."""

    exit_code = 125


class Unreachable(ClientError):
    """No server answered."""


class Refused(ClientError):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
