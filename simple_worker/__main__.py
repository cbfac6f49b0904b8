"""`python -m simple_worker`."""

from simple_worker.cli import main

main(prog_name="simple-worker")
