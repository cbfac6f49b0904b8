"""What happened in one run: told to people line by line, compared by its hash."""

import hashlib


class History:
    """Events in their order: when, who, what."""

    def __init__(self):
        self._events = []

    def add(self, at, who, *what):
        self._events.append((at, who, what))

    def __len__(self):
        return len(self._events)

    def lines(self):
        """One line an event, for a person."""
        for at, who, what in self._events:
            yield f"{at:10.3f}  {who:<10} {' '.join(map(_text, what))}"

    def digest(self):
        """Equal for equal histories, whatever the process."""
        digest = hashlib.sha256()
        for line in self.lines():
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()


def _text(part):
    if isinstance(part, str):
        return part
    if isinstance(part, int | float):
        return f"{part:g}"
    return _describe(part)


def _describe(message):
    """A message of the wire, without the bytes it carries."""
    facts = []
    for name in message.__dataclass_fields__:
        value = getattr(message, name)
        if name == "data":
            facts.append(f"{len(value)} bytes")
        elif name == "options":
            facts.append(f"id={value.id}")
        elif value is not None and name in _TOLD:
            facts.append(f"{name}={value}")
    return f"{type(message).__name__}({', '.join(facts)})"


_TOLD = frozenset(
    "id offset n code signal reason boot items free_slots session detach_ms grace_ms".split()  # noqa: SIM905
)
