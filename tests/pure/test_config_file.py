"""`read_defaults`: what each verb gets from a file, and which files are refused."""

import json
import re
from datetime import date, time

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.config_file import read_defaults
from queued_runner.cli.verbs import VERBS, load_verb

OPTIONS = {
    (verb, name.removeprefix("--")): option
    for verb in VERBS
    for option in load_verb(verb).params
    if isinstance(option, click.Option) and option.expose_value
    for name in option.opts
    if name.startswith("--")
}
texts = st.text(
    st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), max_size=9
)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | texts
odd = st.dates() | st.times() | st.lists(st.lists(scalars, min_size=1), min_size=1, max_size=2)


def toml(value):
    """A value as it stands in a file."""
    match value:
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case date() | time():
            return value.isoformat()
        case float():
            return repr(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def are_scalars(value):
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, bool | int | float | str) for item in items)


@given(st.sampled_from(sorted(OPTIONS)), scalars | st.lists(scalars, max_size=3) | odd)
def test_any_value_is_text_for_its_option_or_is_refused_by_name(place, value):
    verb, key = place
    option = OPTIONS[place]
    try:
        found = read_defaults(f"[{verb}]\n{key} = {toml(value)}\n")[verb][option.name]
    except ValueError as error:
        assert str(error).startswith(repr(key))
        assert isinstance(value, list) != option.multiple or not are_scalars(value)
        return
    assert option.multiple == isinstance(found, list)
    assert all(isinstance(item, str) for item in found)
    with click.Context(load_verb(verb)) as context:
        try:
            option.type_cast_value(context, found)
        except click.UsageError:
            pass  # the option's own words, and no traceback


@given(st.sampled_from(sorted(OPTIONS)), texts)
def test_a_text_comes_as_it_is(place, text):
    verb, key = place
    option = OPTIONS[place]
    value, found = ([text], [text]) if option.multiple else (text, text)
    for head in ("", f"[{verb}]\n"):
        assert read_defaults(f"{head}{key} = {toml(value)}")[verb] == {option.name: found}


def test_shared_keys_reach_the_verbs_that_have_them():
    defaults = read_defaults('group = "g"\njson = true\n[ps]\nlimit = 3\n[run]\ngroup = "h"\n')
    assert set(defaults) == set(VERBS)
    assert defaults["ps"] == {"group": "g", "as_json": "true", "limit": "3"}
    assert defaults["run"] == {"group": "h"}
    assert defaults["serve"] == {}


@given(st.text(max_size=30) | st.from_regex(r"(\[?[a-z]{1,5}\]?( = [0-9\"']{1,3})?\n){1,3}"))
def test_any_text_gives_defaults_of_every_verb_or_a_value_error(text):
    try:
        defaults = read_defaults(text)
    except ValueError:
        return
    assert set(defaults) == set(VERBS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "there is no key 'prot'; did you mean 'port'?"),
        ("[serv]\nport = 1", "there is no table 'serv'; did you mean 'serve'?"),
        ("[ps]\nlimt = 1", "there is no key of [ps] 'limt'; did you mean 'limit'?"),
        ("[ps]\nport = 1", "there is no key of [ps] 'port'"),
        ("config = 'x'", "there is no key 'config'"),
        ("port = = 1", "line 1"),
        ("[submit]\nenv = 'A=1'", "'env' may be given several times; write a list"),
        ("[submit]\nenv = {A = '1'}", "'env' may be given several times; write a list"),
        ("port = [8632]", "'port' takes no such value; write a text, a number, true or false"),
    ],
)
def test_what_no_option_takes_is_refused(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read_defaults(text)


def test_brackets_in_brackets_are_refused():
    with pytest.raises(ValueError, match="nested too deeply"):
        read_defaults("port = " + "[" * 100_000)
