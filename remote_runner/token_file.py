"""A token in a file, for every side that is given one. It owns what a token may be."""

from pathlib import Path

from remote_runner.errors import UnusableSettings


def read_token(path: Path) -> str:
    """The token in a file: one line of printable ASCII, as a header can carry it.

    Raises:
        UnusableSettings: there is none.
    """
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise UnusableSettings(f"the token file {path} cannot be read: {error.strerror}") from error
    if not token:
        raise UnusableSettings(
            f"the token file {path} is empty; write a token into it, or remove it"
        )
    if not all(0x20 <= byte < 0x7F for byte in token):
        raise UnusableSettings(
            f"the token file {path} holds characters that no token has; write printable ASCII"
        )
    return token.decode("ascii")
