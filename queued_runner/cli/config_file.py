"""`--config`: defaults of options from a TOML file, for the client verbs and the service alike.

The keys are the names of options: at the top for every verb that has them, in a `[verb]` table for
one. It owns the refusal of keys that no option has. An option gets its value as the environment
would give it, as text: what it means is the option's own affair. The tables `[runners.NAME]` are no
options but the keyword arguments of plugs, and reach those as they are.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from queued_runner.cli.verbs import VERBS, load_verb

FILE: Final = "duplex-runner.file"
"""Under what a context's `meta` has the path of the file."""
RUNNERS: Final = "runners"
"""The name of the table of tables, and under which a context's `meta` has them."""


def read_defaults(text: str) -> dict[str, dict[str, str | list[str]]]:
    """The defaults of each verb, by the names of parameters.

    Raises:
        ValueError: it is not TOML, says something of an option or verb that there is not, or
            gives an option what no text is.
    """
    values = _parse(text)
    values.pop(RUNNERS, None)
    known = {verb: dict(_keys(load_verb(verb))) for verb in VERBS}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    shared = {key: value for key, value in values.items() if key not in tables}
    _refuse_unknown("table", tables, known)
    _refuse_unknown("key", shared, {key for names in known.values() for key in names})
    for verb, table in tables.items():
        _refuse_unknown(f"key of [{verb}]", table, known[verb])
    return {
        verb: {
            str(options[key].name): _value(key, options[key], value)
            for key, value in {**shared, **tables.get(verb, {})}.items()
            if key in options
        }
        for verb, options in known.items()
    }


def read_runners(text: str) -> dict[str, dict[str, Any]]:
    """The keyword arguments of each plug, from the tables `[runners.NAME]`.

    Raises:
        ValueError: it is not TOML, or `runners` is anything but tables.
    """
    tables = _parse(text).get(RUNNERS, {})
    if not isinstance(tables, dict) or not all(isinstance(item, dict) for item in tables.values()):
        raise ValueError(f"{RUNNERS!r} holds a table a runner, as [{RUNNERS}.local]")
    return tables


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _keys(command: click.Command) -> Iterable[tuple[str, click.Option]]:
    """The keys for a command's options, and the option behind each."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.expose_value:
            for name in parameter.opts:
                if name.startswith("--"):
                    yield name.removeprefix("--"), parameter


def _value(key: str, option: click.Option, value: object) -> str | list[str]:
    if not option.multiple:
        return _text(key, value)
    if not isinstance(value, list):
        raise ValueError(f"{key!r} may be given several times; write a list, if only of one")
    return [_text(key, item) for item in value]


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{key!r} takes no such value; write a text, a number, true or false")


def _refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"there is no {what} {name!r}{hint}")


def with_file(error: click.BadParameter) -> click.BadParameter:
    """The same error, which names this file if the value that the option cannot have is from it."""
    context, parameter = error.ctx, error.param
    if context is None or parameter is None or parameter.name is None:
        return error
    if context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT_MAP:
        return error
    return click.BadParameter(f"{context.meta[FILE]}: {error.message}", context, parameter)


def _apply(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8")
        defaults, runners = read_defaults(text), read_runners(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{path}: {error}", context, parameter) from None
    given: Mapping[str, Any] = defaults
    if not isinstance(context.command, click.Group):
        given = defaults[str(context.command.name)]
    context.meta[RUNNERS], context.meta[FILE] = runners, path
    context.default_map = {**(context.default_map or {}), **given}


config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="DUPLEX_RUNNER_CONFIG",
    show_envvar=True,
    is_eager=True,
    expose_value=False,
    callback=_apply,
    help="TOML file with defaults: option names as keys, [verb] tables for one verb.",
)
