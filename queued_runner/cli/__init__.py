"""The command line. Importing it costs nothing: each verb is loaded when it is called."""


def main() -> None:
    """Run the command line and exit with its status."""
    from queued_runner.cli.group import cli

    cli(prog_name="queued-runner")
