"""Ends every process in the namespaces of one run, then removes them and the run's folder, when its starter is gone.

Started with the read end of a pipe as its input, the run's prefix and its folder as arguments. The pipe ends with the
process that holds the other end, however that ends, so the lab leaves nothing behind even after SIGKILL. Standard
library alone, and a session of its own, so that Ctrl-C does not reach it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

NAMESPACES = Path("/run/netns")


def processes(namespace: str) -> list[int]:
    """Ids of the processes whose network is that namespace."""
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def sweep(prefix: str) -> None:
    """End what runs in the namespaces of that prefix, then remove them."""
    names = [each.name for each in NAMESPACES.glob(f"{prefix}-*")]
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        alive = [pid for name in names for pid in processes(name)]
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while alive and time.monotonic() < deadline:
            time.sleep(0.1)
            alive = [pid for name in names for pid in processes(name)]
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=False)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(sys.argv[1])
    shutil.rmtree(sys.argv[2], ignore_errors=True)
