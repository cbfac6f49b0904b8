"""`python -m remote_runner`: the whole service. The one module here that looks up."""

from queued_runner.cli.serve import serve

serve(prog_name="remote-runner")
