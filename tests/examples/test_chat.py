"""The room of examples/chat.py: members in both codecs, and one who speaks nonsense."""

import json
import socket
import subprocess
import sys

import msgpack
import pytest

from tests.commands import PATIENCE, ROOT, Service

CHAT = ROOT / "examples" / "chat.py"


def test_a_room(service: Service) -> None:
    room = service.start("room", sys.executable, "-u", CHAT, 0)
    log = service.folder / "room.log"
    service.wait_for(lambda: "port" in log.read_text(), "the room")
    port = int(log.read_text().split()[-1])
    anna = service.start("anna", sys.executable, CHAT, port, "anna", stdin=subprocess.PIPE)

    with socket.create_connection(("127.0.0.1", port), PATIENCE) as nell:
        lines = nell.makefile("rwb")

        def say(*event: object) -> None:
            lines.write(json.dumps(event).encode() + b"\n")
            lines.flush()

        def hear(name: str) -> list[str]:
            while (event := json.loads(lines.readline()))[0] != name:
                pass
            return event[1:]

        say("say", "nobody hears this")
        say("join", "nell")
        assert hear("joined") in (["nell"], ["anna"])
        say("who knows")
        say("say", 5)
        service.wait_for(lambda: _joined(anna, say, service), "anna")
        assert anna.stdin is not None
        anna.stdin.write(b"hello nell\n")
        anna.stdin.flush()
        while hear("said") != ["anna", "hello nell"]:
            pass
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            (name, why) = msgpack.unpackb(stranger.makefile("rb").read())
            assert (name, "HTTP" in why) == ("refused", True)
        anna.stdin.close()
        assert anna.wait(PATIENCE) == 0
        assert hear("left") == [1]
    assert room.poll() is None
    assert "nobody hears this" not in (service.folder / "anna.log").read_text()


def _joined(anna: subprocess.Popen[bytes], say: object, service: Service) -> bool:
    say("say", "hello anna")  # type: ignore[operator]
    return "nell: hello anna" in (service.folder / "anna.log").read_text()


@pytest.mark.parametrize("argv", [[], ["x"], ["1", "a", "b"]])
def test_usage(service: Service, argv: list[str]) -> None:
    assert service.start("room", sys.executable, CHAT, *argv).wait(PATIENCE) == 1
    assert (service.folder / "room.log").read_text() == "usage: chat.py PORT [NAME]\n"
