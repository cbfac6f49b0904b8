"""Times before lines of output. Pure: the times come with the output, and no clock is read."""

from datetime import UTC, datetime


class Timestamps:
    """Puts a time (RFC 3339, UTC) before each line, of each stream by itself.

    A line's time is that of its first byte, however many pieces it comes in.
    """

    def __init__(self) -> None:
        self._open: set[str] = set()
        """The streams that stand within a line."""

    def stamp(self, stream: str, at_ms: int, data: bytes) -> bytes:
        """The next piece of a stream, written at `at_ms` (UNIX time in ms), with its times."""
        moment = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        time = moment.replace("+00:00", "Z ").encode()
        if not data:
            return data
        stamped = data.replace(b"\n", b"\n" + time)
        if stream not in self._open:
            stamped = time + stamped
        if data.endswith(b"\n"):
            self._open.discard(stream)
            return stamped.removesuffix(time)  # the next line has not begun
        self._open.add(stream)
        return stamped
