"""Where output lies, as people write it; never with a secret in it."""

import pytest

from queued_runner.output_url import OutputURL, parse_output
from remote_runner.errors import UnusableSettings


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://output", OutputURL("output", "")),
        ("s3://output/", OutputURL("output", "")),
        ("s3://output/of/a queue/", OutputURL("output", "of/a queue/")),
        (
            "s3://o.b-1/q?endpoint=https://s3.example",
            OutputURL("o.b-1", "q/", "https://s3.example"),
        ),
        ("s3://o1?endpoint=http%3A%2F%2F[::1]:9000", OutputURL("o1", "", "http://[::1]:9000")),
    ],
)
def test_a_place_in_a_bucket(text, url):
    assert parse_output(text) == url
    assert parse_output(url.shown).prefix == url.prefix


@pytest.mark.parametrize(
    "text",
    [
        "s3://", "s3:///x", "s3://key:secret@output/x", "s3://output/x?secret=secret",
        "s3://output/x?endpoint=", "s3://output/x?endpoint=ftp://secret",
        "s3://output/x?endpoint=https://key:secret@s3.example",
        "s3://output/x?endpoint=https://s3.example&secret=1", "s3://output/x#secret",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_and_not_repeated(text):
    with pytest.raises(UnusableSettings, match="keys never stand in it") as refused:
        parse_output(text)
    assert "secret=" not in str(refused.value)
    assert "secret@" not in str(refused.value)
