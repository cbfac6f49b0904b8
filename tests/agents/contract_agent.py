"""An agent of the second ancestor, written from its contract alone, with the standard library.

    python contract_agent.py URL COUNT AT_ONCE

It ends when COUNT tasks have ended. As the original does, it flushes output at 512 KiB, sends each
chunk on its own, gzipped, and tells the status without waiting for the last of them.
"""

import gzip
import json
import subprocess
import sys
import threading
import time
import urllib.request

URL = sys.argv[1]
FLUSH = 512 * 1024


def call(method, path, body=None, *, is_gzip=False):
    data = b"" if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if is_gzip:
        data = gzip.compress(data)
        headers["Content-Encoding"] = "gzip"
    request = urllib.request.Request(URL + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def send(task, kind, index, lines):
    body = {"kind": kind, "index": index, "content": "\n".join(lines)}
    assert call("POST", f"/tasks/{task}/logs", body, is_gzip=True) == {}


def read(task, kind, pipe, uploads):
    index, lines, size = 0, [], 0
    with pipe:
        for line in pipe:
            lines.append(line.decode().removesuffix("\n"))
            size += len(line)
            if size >= FLUSH:
                uploads.append(threading.Thread(target=send, args=(task, kind, index, lines)))
                uploads[-1].start()
                index, lines, size = index + 1, [], 0
    if lines:
        uploads.append(threading.Thread(target=send, args=(task, kind, index, lines)))
        uploads[-1].start()


def run(task):
    assert task["status"] == "in_progress"
    assert task.keys() == {"id", "command", "status", "createdAt", "updatedAt", "deletedAt"}
    child = subprocess.Popen(
        ["bash", "-c", task["command"]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    uploads = []
    readers = [
        threading.Thread(target=read, args=(task["id"], kind, pipe, uploads))
        for kind, pipe in (("stdout", child.stdout), ("stderr", child.stderr))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    status = "succeeded" if child.wait() == 0 else "failed"
    assert call("PATCH", f"/tasks/{task['id']}/status", {"status": status}) == {}
    for upload in uploads:
        upload.join()


def work(left, lock):
    while True:
        with lock:
            if not left:
                return
        task = call("POST", "/tasks/pull")
        if task is None:
            time.sleep(0.05)
            continue
        with lock:
            left.pop()
        run(task)


def main():
    left, lock = [None] * int(sys.argv[2]), threading.Lock()
    workers = [threading.Thread(target=work, args=(left, lock)) for _ in range(int(sys.argv[3]))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


main()
