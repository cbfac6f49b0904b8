# A whole worker that needs nothing of this project: python baseline_worker.py PORT
import sys
from select import select
from signal import Signals
from socket import create_connection
from subprocess import DEVNULL, PIPE, Popen

from msgpack import Unpacker, packb

try:
    server, events = create_connection(("127.0.0.1", int(sys.argv[1]))), Unpacker()
except (IndexError, ValueError, OSError, OverflowError) as error:
    sys.exit(f"usage: baseline_worker.py PORT ({error})")
while received := server.recv(65536):
    events.feed(received)
    for command, args, options in (event[1:] for event in events if event[0] == "spawn"):
        how = {"cwd": options.get("cwd"), "env": options.get("env"), "stdin": DEVNULL, "bufsize": 0}
        with Popen(["env", command, *args], stdout=PIPE, stderr=PIPE, **how) as child:
            names = {child.stdout: "stdout", child.stderr: "stderr"}
            while names:
                for pipe in select(names, [], [])[0]:
                    data = pipe.read(65536)
                    server.sendall(packb([names[pipe], data])) if data else names.pop(pipe)
        ending = [code] if (code := child.returncode) >= 0 else [None, Signals(-code).name]
        server.sendall(packb(["close", *ending]))
