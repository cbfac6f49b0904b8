"""`strace` as a disk that fails or a power switch: it counts calls, fails or kills at the n-th."""

import shutil
import subprocess
from functools import cache


@cache
def why_not() -> str | None:
    """Why it cannot be used here; None if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "ptrace is not allowed here" if done.returncode else None
