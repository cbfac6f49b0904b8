"""The worker daemon: connects to a runner and runs commands on this machine."""
