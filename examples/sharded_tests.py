"""A pytest suite spread over all connected workers, and one JUnit report of it.

    python examples/sharded_tests.py FOLDER [--shards 8] [--junit report.xml] [--data-dir state]
                                     [-- PYTEST-ARGUMENT...]

Talks to the server whose `server.json` lies in the data folder. The workers must see the same
files (this machine's do). Each shard is a job, a file each unless `--shards` says how many there
are; it leaves its report in its results, from where they are fetched and merged. Prints what each
failed shard printed, then the counts; exits 1 if any test failed. A suite that pip has installed:

    python examples/sharded_tests.py .venv/lib/python3.11/site-packages/trio/_core/_tests \\
        --shards 4 --junit report.xml -- -c /dev/null -p no:trio -p trio._tests.pytest_plugin

gives on four workers what it gives alone: 290 tests, 13 skipped, with trio 0.35.
"""

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import httpx2

COUNTS = ("tests", "failures", "errors", "skipped")
NOTHING_COLLECTED = 5
"""The exit code of pytest where a file has no tests."""


def split(files: list[Path], shards: int) -> list[list[Path]]:
    """The files in at most so many shards of about the same size, the largest files first."""
    result: list[list[Path]] = [[] for _ in range(min(shards, len(files)))]
    loads = [0] * len(result)
    for file in sorted(files, key=lambda file: (-file.stat().st_size, file)):
        least = loads.index(min(loads))
        result[least].append(file)
        loads[least] += file.stat().st_size + 1
    return [sorted(shard) for shard in result]


def spec(shard: list[Path], name: str, group: str, pytest_args: list[str]) -> dict[str, object]:
    """The job of a shard. In the name of a report pytest itself puts values for variables."""
    options = ["-q", "-p", "no:cacheprovider", "--junitxml=$JOB_SCRATCH/results/junit.xml"]
    return {
        "command": sys.executable,
        "args": ["-m", "pytest", *options, *pytest_args, *(str(file) for file in shard)],
        "name": name,
        "group": group,
        "cwd": str(Path.cwd()),
        "retries": 1,  # a flaky test gets a second chance
    }


def merge(reports: list[bytes]) -> ElementTree.Element:
    """One report of all suites; its counts are their sums."""
    merged = ElementTree.Element("testsuites", name="pytest tests")
    for report in reports:
        merged.extend(ElementTree.fromstring(report).iter("testsuite"))
    for name in COUNTS:
        merged.set(name, str(sum(int(suite.get(name, 0)) for suite in merged)))
    merged.set("time", f"{sum(float(suite.get('time', 0)) for suite in merged):.3f}")
    return merged


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, help="jobs; default: one a file")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the merged report here")
    parser.add_argument("--data-dir", type=Path, default=Path("state"))
    own = list(itertools.takewhile(lambda argument: argument != "--", sys.argv[1:]))
    pytest_args = sys.argv[len(own) + 2 :]
    args = parser.parse_args(own)

    try:
        server = json.loads((args.data_dir / "server.json").read_bytes())
        token = Path(server["token_file"]).read_text().strip()
        httpx2.get(f"{server['url']}/readyz")
    except (OSError, ValueError, LookupError, TypeError, httpx2.TransportError) as error:
        hint = f"start one with: python -m remote_runner --data-dir {args.data_dir}"
        print(f"no server in --data-dir {args.data_dir} ({error}); {hint}", file=sys.stderr)
        return 2
    files = [file.resolve() for file in sorted(args.folder.rglob("test_*.py"))]
    if not files:
        print(f"no test files in {args.folder}", file=sys.stderr)
        return 2

    shards = split(files, args.shards or len(files))
    group = f"tests-{time.time_ns()}"
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=server["url"], headers=headers, timeout=30) as client:
        jobs = [
            spec(shard, shard[0].name if len(shard) == 1 else f"shard {number}", group,
                 pytest_args)
            for number, shard in enumerate(shards, 1)
        ]  # fmt: skip
        answer = client.post("/api/v1/jobs", json=jobs).raise_for_status()
        waiting = answer.json()["ids"]
        reports: dict[int, bytes] = {}
        broken = 0
        while waiting:
            for job_id in waiting.copy():
                job = client.get(f"/api/v1/jobs/{job_id}").raise_for_status().json()
                if job["finished_at"] is None:
                    continue
                waiting.remove(job_id)
                done = len(shards) - len(waiting)
                print(f"[{done}/{len(shards)}] {job['name']}: {job['state']} on {job['worker']}")
                report = client.get(f"/api/v1/jobs/{job_id}/results/junit.xml")
                if report.is_success:
                    reports[job_id] = report.content
                else:
                    broken += 1
                    print(f"{job['name']} left no report")
                if job["state"] != "succeeded" and job["exit_code"] != NOTHING_COLLECTED:
                    print(client.get(f"/api/v1/jobs/{job_id}/logs").text)
            time.sleep(0.1)

    merged = merge([reports[job_id] for job_id in sorted(reports)])
    if args.junit is not None:
        ElementTree.ElementTree(merged).write(args.junit, "utf-8", xml_declaration=True)
    counts = Counter({name: int(merged.get(name, 0)) for name in COUNTS})
    print(", ".join(f"{counts[name]} {name}" for name in COUNTS), f"in {len(shards)} shards")
    return 1 if broken or counts["failures"] or counts["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
