"""What people chose cannot steer a terminal, and a command is shown as one would type it."""

import shlex

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.output import command_line, printable

texts = st.text(max_size=12) | st.text("\x1b\r\n\x9b\u202ea'\" ", max_size=12)


@given(texts)
def test_nothing_shown_is_obeyed_by_a_terminal(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


@given(texts, st.lists(texts, max_size=3))
def test_a_command_that_can_be_shown_can_be_typed_again(command, args):
    line = command_line({"command": command, "args": args})
    assert line.isprintable()
    if all(text.isprintable() for text in (command, *args)):
        assert shlex.split(line) == [command, *args]
