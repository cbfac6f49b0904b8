"""Finding the server: from options, the environment, or `server.json`. It makes no connection."""

import json
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from queued_runner.client.errors import Unreachable
from queued_runner.datadir import SERVER, TOKEN, default_data_dir

DETACH: Final = 120.0
"""Seconds for which a server that went away is waited for, at least."""
START_HINT: Final = "start it with: queued-runner serve"


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and what opens it."""

    url: str
    token: str
    source: str
    """Where this was found, for messages."""
    detach: float = DETACH
    """Seconds for which its jobs run on while it is away, as far as that is known here."""
    others: tuple[str, ...] = ()
    """Further servers of the same queue, which know the same jobs and the same token."""

    @property
    def next(self) -> "Server":
        """The one to ask where this one is away; itself, where there is no other."""
        url, *rest = (*self.others, self.url)
        return replace(self, url=url, others=tuple(rest))


def find_server(
    url: str | None = None,
    token: str | None = None,
    token_file: str | None = None,
    data_dir: str | None = None,
) -> Server:
    """What was given, else the environment, else `server.json` in the data directory.

    `url` may name several servers of one queue, with commas between.

    Raises:
        Unreachable: nothing says where a server is, or what its token is.
    """
    url = url or os.environ.get("DUPLEX_RUNNER_URL")
    token = token or os.environ.get("DUPLEX_RUNNER_TOKEN")
    token_file = token_file or os.environ.get("DUPLEX_RUNNER_TOKEN_FILE")
    directory = Path(data_dir) if data_dir else default_data_dir()
    source, detach = "--url or DUPLEX_RUNNER_URL", DETACH
    if url is None:
        path = directory / SERVER
        source = str(path)
        try:
            found = json.loads(path.read_text())
            url, detach = str(found["url"]), float(found.get("detach", DETACH))
            token_file = token_file or str(found["token_file"])
        except FileNotFoundError:
            hint = f"{START_HINT} --data-dir {shlex.quote(data_dir)}" if data_dir else START_HINT
            raise Unreachable(
                f"No server is running here ({path} does not exist); {hint}."
                " One that was started with --data-dir DIR is found with --data-dir DIR or"
                " DUPLEX_RUNNER_DATA_DIR=DIR, and one on another machine with --url."
            ) from None
        except OSError as error:
            raise Unreachable(f"{path} cannot be read ({error}); say --url instead.") from None
        except (ValueError, KeyError, TypeError):
            raise Unreachable(
                f"{path} is not what a server writes; start it again, or say --url instead."
            ) from None
    place = "DUPLEX_RUNNER_TOKEN"
    if token is None:
        place = token_file or str(directory / TOKEN)
        file = Path(token_file) if token_file else directory / TOKEN
        try:
            token = file.read_text().strip()
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"The token of the server cannot be read from {file} ({error});"
                " set DUPLEX_RUNNER_TOKEN."
            ) from None
    if not token:
        raise Unreachable(
            f"The token in {place} is empty; set DUPLEX_RUNNER_TOKEN to that of the server."
        )
    if not token.isascii() or not token.isprintable():
        raise Unreachable(
            f"The token in {place} has characters that no token has; set DUPLEX_RUNNER_TOKEN."
        )
    first, *others = map(_whole, url.split(","))
    return Server(first, token, source, detach, tuple(others))


def _whole(url: str) -> str:
    url = url.strip()
    if not url.startswith(("http://", "https://")):
        url = f"http://{url}"
    return url.rstrip("/")
