"""What people chose cannot steer a terminal, and a command is shown as one would type it."""

import shlex
import subprocess

from hypothesis import example, given, settings
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


@settings(max_examples=30)
@given(st.lists(texts.map(lambda text: text.replace("\0", "")), min_size=1, max_size=9))
@example(["a b", "it's\n\\\x1b[1mé\u202e", "$'x'", "\t", ""])
def test_a_command_that_is_pasted_into_a_shell_is_the_same(words):
    line = command_line({"command": "printf", "args": ["%s|", *words]})
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"{word}|" for word in words)


def test_a_text_for_a_shell_is_shown_as_it_is():
    assert command_line({"command": "a | b", "args": ["c;"], "shell": True}) == "a | b c;"
