"""`python -m queued_runner`: the command line. It does nothing itself."""

from queued_runner.cli import main

if __name__ == "__main__":
    main()
