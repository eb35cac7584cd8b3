"""Cutting a file into chunks and building its tree, side by side with SHA-512 of the same file, compiled and plain.

One process for each measurement, in turns, with the file in the page cache; rates are medians: read the ratio. Memory
is the peak above that of an interpreter that does nothing.

    python bench/chunks.py [--size-mb 100] [--rounds 5]

Goal: 300 MB/s compiled on x86_64; memory that grows by the index alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAIN_SHARE = 10
"""The plain twin gets a tenth of the file: it is slow, and as slow for each byte of a longer one."""


def measure(what: str, path: str, size: int) -> tuple[float, int]:
    """Bytes a second of processor time, and KiB of memory at the peak, in a fresh process."""
    environment = os.environ | {"PYPATCHER_NO_EXTENSIONS": "1" if what == "tree, plain" else "0"}
    told = subprocess.run(
        [sys.executable, __file__, "--measure", what.partition(",")[0], path, str(size)],
        capture_output=True, text=True, check=True, env=environment,
    ).stdout.split()  # fmt: skip
    return size / float(told[0]), int(told[1])


def run_measurement(what: str, path: str, size: int) -> None:
    """In the fresh process: seconds of processor time, and the peak of memory."""
    from pypatcher.artifact.hashing import feed
    from pypatcher.artifact.tree import build_tree

    fd = os.open(path, os.O_RDONLY)
    began = time.process_time()
    if what == "tree":
        build_tree(fd, size)
    elif what == "sha512":
        import hashlib

        feed(hashlib.sha512().update, fd, 0, size)
    spent = time.process_time() - began
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    print(max(spent, 1e-9), peak)


def main() -> None:
    """Print a row for each."""
    if sys.argv[1:2] == ["--measure"]:
        run_measurement(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    size = args.size_mb * 1_000_000
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(args.size_mb):
            file.write(os.urandom(1_000_000))
        file.flush()
        rows: dict[str, list[tuple[float, int]]] = {
            "nothing": [],
            "sha512": [],
            "tree, compiled": [],
            "tree, plain": [],
        }
        for _ in range(args.rounds):
            for what, results in rows.items():
                results.append(measure(what, file.name, size // PLAIN_SHARE if what == "tree, plain" else size))
    idle = statistics.median(peak for _, peak in rows.pop("nothing"))
    base = statistics.median(rate for rate, _ in rows["sha512"])
    for what, results in rows.items():
        rate = statistics.median(rate for rate, _ in results)
        memory = statistics.median(peak for _, peak in results) - idle
        print(f"{what:<16}{rate / 1e6:8.0f} MB/s{rate / base:8.2f} of SHA-512{memory / 1024:8.1f} MB above idle")


if __name__ == "__main__":
    main()
