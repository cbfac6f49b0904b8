"""Secrets in output: hidden in every form, wherever a stream is cut, and in linear time."""

import base64
import json
import random
import re
import shlex
import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runner.mask import HIDDEN, MIN_LINE, PIECE, Mask, MaskedStream

SECRET = "pa$$w0rd/with+'odd' \"é\" chars"
LETTERS = string.ascii_letters + string.digits + "-_"
KEY = "-----BEGIN KEY-----\n" + "\n".join(f"{n:02}QmFzZTY0IGxpbmU" * 4 for n in range(12))


def masked(mask: Mask, *pieces: bytes) -> bytes:
    """What is left of a stream that comes in these pieces."""
    stream = MaskedStream(mask)
    return b"".join([*map(stream.feed, pieces), stream.flush()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def forms(secret: str) -> dict[str, str]:
    """The ways to write a secret that are promised, with something around it."""
    data = secret.encode()
    written = {
        "raw": secret,
        "quote": quote(secret),
        "quote all": quote(secret, safe=""),
        "quote_plus": quote_plus(secret),
        "JavaScript": quote(secret, safe="!'()*"),
        "JSON": json.dumps(secret)[1:-1],
        "JSON, not ASCII": json.dumps(secret, ensure_ascii=False)[1:-1],
        "shell": shlex.quote(secret)[1:-1] if "'" in secret else secret,
        "shell, by itself": secret.replace("'", "'\\''"),
    }
    for name in ("quote", "quote_plus"):
        written[f"{name}, lower"] = "".join(
            part.lower() if index % 2 else part
            for index, part in enumerate(_escapes(written[name]))
        )
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        written[encode.__name__] = encode(data).decode()
        written[f"{encode.__name__}, not padded"] = encode(data).decode().rstrip("=")
    return written


def _escapes(quoted: str) -> list[str]:
    """Text and escapes in turn."""
    parts: list[str] = [""]
    rest = quoted
    while "%" in rest:
        before, _, after = rest.partition("%")
        parts[-1] += before
        parts += [f"%{after[:2]}", ""]
        rest = after[2:]
    parts[-1] += rest
    return parts


@pytest.mark.parametrize("form", forms(SECRET))
def test_every_form_is_hidden(form: str) -> None:
    written = forms(SECRET)[form].encode()
    assert masked(Mask([SECRET]), b"before:" + written + b":after") == b"before:***:after"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_base64_is_hidden_wherever_the_secret_stands_in_it(encode, before, after) -> None:
    secret = "s3cr3t?>~value"
    shown = masked(Mask([secret]), encode(b"u" * before + secret.encode() + b"v" * after))
    # What is left holds bits of its neighbours too, and at most four of the secret's own.
    assert HIDDEN in shown
    first, _, last = shown.partition(HIDDEN)
    assert len(first) <= (before * 8 + 5) // 6
    assert len(last.rstrip(b"=")) <= (after * 8 + 5) // 6 + 1


def in_lines(text: bytes, columns: int, ending: bytes) -> bytes:
    """As `base64` and PEM write it."""
    return b"".join(text[at : at + columns] + ending for at in range(0, len(text), columns))


def decoded(shown: bytes) -> set[bytes]:
    """All that can be read from base64 in lines, wherever it begins."""
    texts = re.findall(rb"[A-Za-z0-9+/]+", re.sub(rb"[\r\n]", b"", shown))
    rests = [text[first:] for text in texts for first in range(4)]
    return {base64.b64decode(rest + b"A" * (-len(rest) % 4)) for rest in rests}


def leaked(secret: bytes, shown: bytes) -> set[bytes]:
    """Each run of 8 bytes of the secret that can be read."""
    runs = {secret[at : at + 8] for at in range(len(secret) - 7)}
    return {run for run in runs for data in decoded(shown) if run in data}


@pytest.mark.parametrize("columns", [64, 76])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("user", ["", "a:", "ab:", "abc:", "user:", "oauth2:", "x-access-token:"])
def test_base64_in_lines_is_hidden_whatever_stands_before_it(
    columns: int, ending: bytes, user: str
) -> None:
    rng = random.Random(1)
    for secret in (KEY, "".join(rng.choices(LETTERS, k=94)), "".join(rng.choices(LETTERS, k=12))):
        text = base64.b64encode(f"{user}{secret}".encode())
        shown = masked(Mask([secret]), in_lines(text, columns, ending))
        assert len(re.sub(rb"[*\r\n=]", b"", shown)) <= (len(user) * 8 + 5) // 6 + 1
        assert shown.count(b"\n") == -(-len(text) // columns)  # lines stay lines


@pytest.mark.parametrize("columns", [64, 76])
def test_indented_base64_of_a_secret_is_hidden_line_by_line(columns: int) -> None:
    data = in_lines(base64.b64encode(KEY.encode()), columns, b"\n    ")
    assert len(re.sub(rb"[*\n =]", b"", masked(Mask([KEY]), data))) <= MIN_LINE


def test_an_empty_line_ends_base64() -> None:
    """Else what is held back might be without end."""
    mask = Mask(["correct horse"])
    text = base64.b64encode(b"correct horse").rstrip(b"=")
    stream = MaskedStream(mask)
    assert stream.feed(text[:9] + b"\n") == b""
    assert stream.feed(b"\r") == b""
    assert stream.feed(b"\n") == text[:9] + b"\n\r\n"
    shown = masked(mask, in_lines(text, 1, b"\r\n") + b"!")
    assert shown == b"***\r\n" * len(text) + b"!"
    assert masked(mask, text[:9] + b"\n") == b"***\n"  # cut off in it


@given(
    st.binary(max_size=90),
    st.integers(8, 300),
    st.binary(max_size=20),
    st.sampled_from([1, 5, 64, 76]),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0), max_size=6),
    st.integers(0, 10_000),
)
def test_nothing_of_a_secret_is_in_base64_in_lines(
    before: bytes,
    size: int,
    after: bytes,
    columns: int,
    ending: bytes,
    places: list[int],
    seed: int,
) -> None:
    secret = "".join(random.Random(seed).choices(LETTERS, k=size))
    mask = Mask([secret])
    text = base64.b64encode(before + secret.encode() + after)
    data = in_lines(text, columns, ending)
    assert leaked(secret.encode(), data)
    whole = masked(mask, data)
    assert leaked(secret.encode(), whole) == set()
    assert masked(mask, *cut(data, places)) == whole
    assert masked(mask, *(data[at : at + 1] for at in range(len(data)))) == whole


@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_thousand_splits_leak_nothing(seed: int) -> None:
    """Twenty thousand for each seed."""
    rng = random.Random(seed)
    secrets = ["hunter2", "hunter2-longer", "ter2-lo", SECRET, "aaaa", "aab"]
    mask = Mask(secrets)
    forbidden = {form.encode() for secret in secrets for form in forms(secret).values()}
    noise = [b"", b"h", b"hunter", b" ", b"aa", b"\n", b"aHVudGVy", b"%", "é".encode()[:1], b"x"]
    for _ in range(80):
        data = b"".join(
            rng.choice((rng.choice(noise), rng.choice(sorted(forbidden)))) for _ in range(4)
        )
        whole = masked(mask, data)
        assert not any(form in whole for form in forbidden), data
        for _ in range(250):
            places = [rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 4))]
            pieces = cut(data, places)
            assert masked(mask, *pieces) == whole, pieces


letters = st.text("ab\n", min_size=1, max_size=6)


@given(st.lists(letters, max_size=4), st.text("abc\n", max_size=40), st.lists(st.integers(0)))
def test_exactly_what_belongs_to_a_secret_is_hidden(
    secrets: list[str], text: str, places: list[int]
) -> None:
    mask = Mask(secrets)
    covered = [False] * len(text)
    for secret in filter(None, map(str.strip, secrets)):
        for at in range(len(text)):
            for form in (secret, json.dumps(secret)[1:-1]):
                if text.startswith(form, at):
                    covered[at : at + len(form)] = [True] * len(form)
    expected = "".join(
        ("***" if not (at and covered[at - 1]) else "") if covered[at] else char
        for at, char in enumerate(text)
    )
    stream = MaskedStream(mask)
    shown = b"".join(map(stream.feed, cut(text.encode(), places)))
    assert expected.encode().startswith(shown)
    assert shown + stream.flush() == expected.encode()
    assert mask.hide(text) == expected


@given(st.binary(max_size=300), st.lists(st.integers(0)))
def test_what_holds_no_secret_is_left_as_it_is(data: bytes, places: list[int]) -> None:
    assert masked(Mask([]), *cut(data, places)) == data
    assert masked(Mask(["not in there"]), *cut(data, places)) == data


@given(st.lists(st.text(min_size=3, max_size=20), min_size=1), st.binary(max_size=60))
def test_no_secret_of_three_bytes_makes_output_grow(secrets: list[str], data: bytes) -> None:
    secrets = [secret for secret in secrets if len(secret.strip().encode()) >= 3]
    data = data + "".join(secrets).encode() + data
    shown = masked(Mask(secrets), data)
    assert len(shown) <= len(data)
    assert not any(secret.strip().encode() in shown for secret in secrets if "*" not in secret)


def test_only_what_may_be_a_secret_is_held_back() -> None:
    stream = MaskedStream(Mask(["hunter2"]))
    assert stream.feed(b"password: h") == b"password: "
    assert stream.feed(b"!") == b"h!"
    assert stream.feed(b"hunhunt") == b"hun"
    assert stream.feed(b"er2hunter") == b"***"
    assert stream.feed(b"2") == b""  # it belongs to the same run
    assert stream.feed(b"!") == b"!"


def test_an_end_that_was_cut_off_in_a_secret_is_hidden() -> None:
    mask = Mask(["correct horse battery staple"])
    assert masked(mask, b"it is corr") == b"it is corr"
    assert masked(mask, b"it is correct ho") == b"it is ***"


def test_lines_of_a_secret_are_secrets_and_white_space_around_it_is_not() -> None:
    mask = Mask(["  first line\r\nshort\r\n  third line here\n"])
    assert masked(mask, b"<first line>\n<short>\n<third line here>") == b"<***>\n<short>\n<***>"
    assert masked(Mask(["hunter2\n"]), b"[hunter2]") == b"[***]"
    assert masked(Mask(["", " \n"]), b" \n \n") == b" \n \n"


def test_a_long_secret_is_one_run_and_each_piece_of_it_is_hidden() -> None:
    secret = "".join(random.Random(2).choices("abcdefgh", k=3 * PIECE + 7))
    mask = Mask([secret])
    data = f"<{secret}>".encode()
    assert masked(mask, data) == b"<***>"
    assert masked(mask, *(data[at : at + 1] for at in range(len(data)))) == b"<***>"
    assert b"***" in masked(mask, data[: 2 * PIECE])


def test_text_that_is_no_text_is_taken() -> None:
    assert masked(Mask(["se\udcffcret"]), b"se\xffcret") == b"***"
    Mask(["\ud800abc"])


def test_a_mask_does_not_show_what_it_hides() -> None:
    mask = Mask(["hunter2"])
    assert "hunter2" not in repr(mask) + repr(MaskedStream(mask))


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("a" * 999 + "b", b"a"),
        ("a" * 16_000 + "b", b"a"),
        ("a" * 500 + "b" + "a" * 500, b"a"),
        ("aaa", b"a"),
        ("a" * 250 + "b", b"a" * 249 + b"c"),
        ("a" * 999 + "b", b"Y\nWFhYWFh\r\n"),
    ],
)
@pytest.mark.parametrize("piece", [50, 8192])
def test_hostile_output_takes_linear_time(secret: str, text: bytes, piece: int) -> None:
    mask = Mask([secret])

    def cost(size: int) -> float:
        data = (text * size)[:size]
        stream = MaskedStream(mask)
        began = time.process_time()
        for at in range(0, size, piece):
            stream.feed(data[at : at + piece])
        return time.process_time() - began

    short = min(cost(20_000) for _ in range(3))
    long = min(cost(160_000) for _ in range(3))
    assert long < 24 * short + 0.05  # 8 times the data; of the square it would be 64 times
