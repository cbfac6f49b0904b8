pytest_plugins = ["queued_runner.testing.fixtures"]
