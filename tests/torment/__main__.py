"""`python -m tests.torment`: as many requests as one likes; prints how often which status came."""

import argparse
import tempfile
import time
from pathlib import Path

from tests.commands import Service
from tests.torment import ask, begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="requests of each kind")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
        begin(service)
        seen = ask(service, options.examples, is_random=True)
    seconds = time.monotonic() - begun
    by_status = dict(sorted(seen.items()))
    print(f"{seen.total()} requests in {seconds:.0f} s, none a server error: {by_status}")


if __name__ == "__main__":
    main()
