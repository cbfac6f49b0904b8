"""What the project can do, measured against the limits of the same machine in the same run."""
