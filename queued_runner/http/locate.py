"""Finding the server: from options, the environment, or `server.json`; and what can go wrong.

It owns these errors and the place of the default data directory. It makes no connection, and is
light to import: every verb of the command line needs it.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_HINT: Final = "start it with: queued-runner serve"


class ClientError(Exception):
    """Something a person can act on; the message is a sentence, `exit_code` the status."""

    exit_code = 125


class Unreachable(ClientError):
    """No server answered."""


class Refused(ClientError):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and what opens it."""

    url: str
    token: str
    source: str
    """Where this was found, for messages."""


def default_data_dir() -> Path:
    """`DUPLEX_RUNNER_DATA_DIR`, else `duplex-runner` in the platform's state directory."""
    given = os.environ.get("DUPLEX_RUNNER_DATA_DIR")
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "duplex-runner"
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification of XDG says that a relative path is to be ignored.
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "duplex-runner"


def find_server(
    url: str | None = None,
    token: str | None = None,
    token_file: str | None = None,
    data_dir: str | None = None,
) -> Server:
    """What was given, else the environment, else `server.json` in the data directory.

    Raises:
        Unreachable: nothing says where a server is.
    """
    url = url or os.environ.get("DUPLEX_RUNNER_URL")
    token = token or os.environ.get("DUPLEX_RUNNER_TOKEN")
    token_file = token_file or os.environ.get("DUPLEX_RUNNER_TOKEN_FILE")
    directory = Path(data_dir) if data_dir else default_data_dir()
    source = "--url or DUPLEX_RUNNER_URL"
    if url is None:
        path = directory / "server.json"
        source = str(path)
        try:
            found = json.loads(path.read_text())
            url = str(found["url"])
            token_file = token_file or str(found["token_file"])
        except FileNotFoundError:
            raise Unreachable(
                f"No server is running here ({path} does not exist); {START_HINT},"
                " or say where it is with --url."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{path} cannot be used ({error}); say --url instead.") from None
    if token is None:
        file = Path(token_file) if token_file else directory / "token"
        try:
            token = file.read_text().strip()
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"The token of the server cannot be read from {file} ({error});"
                " set DUPLEX_RUNNER_TOKEN."
            ) from None
    if not url.startswith(("http://", "https://")):
        url = f"http://{url}"
    if not token.isascii() or not token.isprintable():
        raise Unreachable("The token has characters that no token has; set DUPLEX_RUNNER_TOKEN.")
    return Server(url.rstrip("/"), token, source)
