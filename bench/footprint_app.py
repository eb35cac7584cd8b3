"""The application that ``bench/footprint.py`` measures from inside: a zipapp that starts the updater and waits.

Usage: app SECONDS [FLAG]: wait that long, or until a release is staged or FLAG exists;
then print one JSON object. The key is in OWNER.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


def memory(field: str) -> int:
    """kB of this process, from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def wait(claim: Callable[[], bool], deadline: float) -> None:
    """Until it is true, or that time."""
    while time.monotonic() < deadline and not claim():
        time.sleep(0.2)


async def main() -> None:
    """Measure, and say it."""
    own = memory("VmRSS")
    start = time.perf_counter()
    import pypatcher

    imported = time.perf_counter()
    staged = threading.Event()
    pypatcher.on_event(lambda event: staged.set() if event.name == "release.staged" else None)
    pypatcher.public_key(os.environ["OWNER"])
    called, worked = time.perf_counter(), time.thread_time()
    await pypatcher.spawn(pypatcher.UpdaterMode.OnRestart)
    returned, worked = time.perf_counter(), time.thread_time() - worked
    deadline = time.monotonic() + float(sys.argv[1])
    if len(sys.argv) > 2:
        await asyncio.to_thread(wait, lambda: staged.is_set() or Path(sys.argv[2]).exists(), deadline)
        cpu = 0.0
    else:
        await asyncio.sleep(30)  # joining the network is over by then
        before, began = time.process_time(), time.monotonic()
        await asyncio.sleep(max(1.0, deadline - time.monotonic()))
        cpu = (time.process_time() - before) / (time.monotonic() - began)
    print(
        json.dumps(
            {
                "own_kb": own,
                "idle_kb": memory("VmRSS") - own,
                "peak_kb": memory("VmHWM") - own,
                "import_ms": (imported - start) * 1e3,
                "spawn_ms": (returned - called) * 1e3,
                "spawn_work_ms": worked * 1e3,
                "cpu": cpu,
                "staged": staged.is_set(),
            }
        ),
        flush=True,
    )
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
