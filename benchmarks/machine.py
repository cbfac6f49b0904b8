"""What a figure was measured on: the machine, the kernel, the interpreter, the disk."""

import os
import platform
import sysconfig
import time
from pathlib import Path
from typing import Any


def describe(folder: Path) -> dict[str, Any]:
    """`folder` is where the data of the servers lie."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder),
        "python": platform.python_version(),
        "python_build": _build(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _build() -> str:
    """The options of configure that decide how fast the interpreter is, and its compiler."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    telling = [
        name
        for name in ("--enable-optimizations", "--with-lto", "--enable-experimental-jit")
        if name in options
    ]
    return ", ".join([*telling, platform.python_compiler()])


def _filesystem(folder: Path) -> str:
    """The kind of the file system that `folder` is in: the mount with the longest path wins."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    ours = [m for m in mounts if folder.resolve().is_relative_to(m[1])]
    return max(ours, key=lambda mount: len(mount[1]))[2] if ours else "unknown"
