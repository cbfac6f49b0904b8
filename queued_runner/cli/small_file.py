"""Reads a file that becomes part of a job: whole, and never more of it than a job may have."""

import sys

import click


def read_small(option: str, path: str, most: int, otherwise: str) -> bytes:
    """What is in a file, or with `-` in our input.

    Args:
        option: that names the file, for messages.
        most: bytes.
        otherwise: what to do with more.

    Raises:
        click.UsageError: there is more, or it cannot be read.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(most + 1)
    except OSError as error:
        raise click.UsageError(f"{option} {path}: {error.strerror}.") from None
    if len(data) > most:
        raise click.UsageError(f"{option} {path} has more than {most:,} bytes; {otherwise}.")
    return data
