"""The command line. Importing it costs nothing: each verb is loaded when it is called."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from remote_runner.standard_streams import fill

    closed = fill()
    from queued_runner.cli.group import cli
    from queued_runner.cli.output import spell_out_unknown_letters

    if "stdout" in closed:
        # Before anything is asked for: nobody would see what comes of it.
        sys.stderr.write("queued-runner: the output cannot be written: stdout is closed\n")
        sys.exit(74)
    spell_out_unknown_letters()
    cli(prog_name="queued-runner")
