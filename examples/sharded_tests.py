"""A pytest suite spread over all connected workers, one job a file.

    python examples/sharded_tests.py FOLDER [--data-dir state] [-- PYTEST-ARGUMENT...]

Talks to the server whose `server.json` lies in the data folder. The workers must see the same
files (this machine's do). Prints what each failed file printed; exits 1 if any failed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import httpx2


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path("state"))
    parser.add_argument("pytest_args", nargs="*", metavar="PYTEST-ARGUMENT")
    args = parser.parse_args()

    try:
        server = json.loads((args.data_dir / "server.json").read_bytes())
        token = Path(server["token_file"]).read_text().strip()
        httpx2.get(f"{server['url']}/readyz")
    except (OSError, ValueError, LookupError, TypeError, httpx2.TransportError) as error:
        hint = f"start one with: python -m remote_runner --data-dir {args.data_dir}"
        print(f"no server in --data-dir {args.data_dir} ({error}); {hint}", file=sys.stderr)
        return 2
    group = f"tests-{time.time_ns()}"
    files = sorted(args.folder.rglob("test_*.py"))
    if not files:
        print(f"no test files in {args.folder}", file=sys.stderr)
        return 2

    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=server["url"], headers=headers, timeout=30) as client:
        jobs = [
            {
                "command": sys.executable,
                "args": ["-m", "pytest", "-q", "-p", "no:cacheprovider", *args.pytest_args, str(f)],
                "name": f.name,
                "group": group,
                "cwd": str(Path.cwd()),
                "retries": 1,  # a flaky test gets a second chance
            }
            for f in (file.resolve() for file in files)
        ]
        answer = client.post("/api/v1/jobs", json=jobs).raise_for_status()
        waiting = answer.json()["ids"]
        failed = 0
        while waiting:
            for job_id in waiting.copy():
                job = client.get(f"/api/v1/jobs/{job_id}").raise_for_status().json()
                if job["finished_at"] is None:
                    continue
                waiting.remove(job_id)
                done = len(files) - len(waiting)
                print(f"[{done}/{len(files)}] {job['name']}: {job['state']} on {job['worker']}")
                if job["state"] != "succeeded":
                    failed += 1
                    print(client.get(f"/api/v1/jobs/{job_id}/logs").text)
            time.sleep(0.1)
    print(f"{len(files) - failed} of {len(files)} files passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
