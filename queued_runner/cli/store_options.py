"""Options of the verbs that work on a store itself, without a server; and how these verbs end.

It owns that no password stands where others on the machine can see it. It opens nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from queued_runner.cli.options import option, say
from queued_runner.cli.values import Folder

if TYPE_CHECKING:
    from queued_runner.config import Settings

F = TypeVar("F", bound=Callable[..., Any])

EX_IOERR: Final = 74
REFUSED: Final = 125
UNREADABLE: Final = 2


def is_store(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse a text that names no store, or that has a password others could see."""
    from queued_runner.store.url import parse_store
    from remote_runner.errors import UnusableSettings

    if text is None:
        return None
    try:
        has_password = parse_store(text).has_password
    except UnusableSettings as error:
        raise click.BadParameter(str(error), context, parameter) from None
    open_to_others = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    if has_password and context.get_parameter_source(str(parameter.name)) in open_to_others:
        raise click.BadParameter(
            "there is a password in it, which others on this machine could see here; leave it out,"
            " and put it into ~/.pgpass, into a file that PGPASSFILE or ?passfile=FILE names, or"
            " give the whole URL as `store` in the --config file",
            context,
            parameter,
        )
    return text


class OutputPlaceType(click.Path):
    """A folder that is there, or a place in a bucket, as it was written."""

    def __init__(self, *, writable: bool = False) -> None:
        super().__init__(path_type=Path, exists=True, file_okay=False, writable=writable)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from queued_runner.output_url import SCHEME, parse_output
        from remote_runner.errors import UnusableSettings

        if not str(value).startswith(SCHEME):
            return super().convert(value, param, ctx)
        try:
            parse_output(str(value))
        except UnusableSettings as error:
            self.fail(str(error), param, ctx)
        return str(value)


data_dir_option = option("--data-dir", type=Folder(path_type=Path), help="Where the queue lies.")
store_option = option(
    "--store", metavar="URL", callback=is_store,
    help="Where the queue is kept, as `serve` has it; by default a file in the data directory.",
)  # fmt: skip
logs_option = option(
    "--logs", type=OutputPlaceType(),
    help="Where output and results lie; by default the data directory.",
)  # fmt: skip


def settings_of(
    data_dir: Path | None, store: str | None, logs: Path | str | None = None
) -> "Settings":
    """What these options say."""
    from queued_runner.config import Settings
    from queued_runner.datadir import default_data_dir

    return Settings(data_dir=data_dir or default_data_dir(), store=store, logs=logs)


@contextmanager
def ending_well() -> Iterator[None]:
    """What cannot be done ends the program with a sentence and a status.

    But for an OSError: it is about the output, and the group of verbs has a sentence for it.
    """
    from queued_runner.store.base import NoRoom, StoreAway, StoreBroken
    from queued_runner.transfer.format import BadLine
    from remote_runner.errors import RunnerError

    try:
        yield
    except RunnerError as error:
        say(str(error))
        if isinstance(error, BadLine):
            status = UNREADABLE
        elif isinstance(error, NoRoom | StoreAway | StoreBroken):
            status = EX_IOERR
        else:
            status = REFUSED
        raise click.exceptions.Exit(status) from error
