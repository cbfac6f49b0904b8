"""What `keep_processes` starts in tests: it shares the port, and tells whoever connects who it is.

`python -m tests.processes.server MANNER…`: `drains` (stops at the second word only), `stubborn`
(stops at none), `fails=STATUS` (never serves), `fails=STATUS@NUMBER` (that one of them alone).
"""

import os
import signal
import sys

import trio

from queued_runner.lifeline import Lifeline, Place, Word
from remote_runner.listening import open_listeners


async def main(manners):
    place = Place.take(os.environ)
    for manner in manners:
        status, _, number = manner.removeprefix("fails=").partition("@")
        if manner.startswith("fails=") and number in ("", str(place.number)):
            sys.exit(int(status))

    async def answer(stream):
        async with stream:
            await stream.send_all(f"{place.number} {os.getpid()}\n".encode())
            await stream.receive_some(1)

    with Lifeline(place) as lifeline:
        async with trio.open_nursery() as nursery:
            listeners = await open_listeners("127.0.0.1", place.port, reuse_port=True)
            nursery.start_soon(trio.serve_listeners, answer, listeners)
            nursery.start_soon(lifeline.keep_telling)
            while True:
                word = await lifeline.word()
                if word is None or (
                    "stubborn" not in manners and ("drains" not in manners or word is Word.AT_ONCE)
                ):
                    break
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests ignore it
    trio.run(main, sys.argv[1:])
