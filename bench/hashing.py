"""Verifying and scanning a file, side by side with hashlib alone, on the compiled and the pure twins.

Each measurement is a fresh process that has the file in the page cache. Rates are medians over rounds that take turns,
because the machine is shared: read the ratio. Memory is the peak above that of an interpreter that does nothing.

    python bench/hashing.py [--size-mb 100] [--rounds 5]

Goal: hash and verify at 0.9 of hashlib's rate at least, with 20 MB of memory at most.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

SEED = bytes(range(32))
PEAK = "int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"


def make_files(folder: str, size: int) -> dict[str, str]:
    """Signed programs of about ``size`` bytes: their region at the end, and before everything else that matters."""
    import os
    import shutil

    from pypatcher.artifact import embed_region, sign_file
    from pypatcher.keys import KeyPair
    from pypatcher.version import Version

    program = shutil.which("true") or "/bin/true"
    block = os.urandom(1 << 20)

    def grow(path: Path) -> None:
        with path.open("ab") as file:
            while file.tell() < size:
                file.write(block[: size - file.tell()])

    files = {name: Path(folder) / name for name in ("end", "start")}
    shutil.copy(program, files["end"])
    grow(files["end"])
    embed_region(files["end"], Version(1, 0, 0))
    shutil.copy(program, files["start"])
    embed_region(files["start"], Version(1, 0, 0), carrier="section")
    grow(files["start"])
    for path in files.values():
        sign_file(path, KeyPair.from_seed(SEED), None, None)
    return {name: str(path) for name, path in files.items()}


def hashlib_alone(path: str) -> None:
    """What anybody would write."""
    import hashlib

    with Path(path).open("rb") as file:
        hashlib.file_digest(file, "sha512").digest()


def verify(path: str) -> None:
    """Everything that a device checks: place, length, hash, signature, target."""
    from pypatcher.artifact import check_release, program_target
    from pypatcher.keys import KeyPair, OwnerKey
    from pypatcher.targets import find_target

    with Path(path).open("rb") as file:
        target = find_target(min(program_target(file.fileno())))
        check_release(file.fileno(), OwnerKey(KeyPair.from_seed(SEED).public), target)


def verify_and_name(path: str) -> None:
    """The same, and SHA-512 over the whole file, by which a device remembers it: what comes after the region twice."""
    from pypatcher.artifact import verify_release
    from pypatcher.keys import KeyPair, OwnerKey

    with Path(path).open("rb") as file:
        verify_release(file.fileno(), OwnerKey(KeyPair.from_seed(SEED).public), None)


def scan(path: str) -> None:
    """The search for regions that ``sign`` and ``inspect`` make."""
    from pypatcher.artifact import scan_regions

    with Path(path).open("rb") as file:
        scan_regions(file.fileno())


CASES = {
    "hashlib alone": ("end", hashlib_alone, "0"),
    "verify, region at the end": ("end", verify, "0"),
    "verify, region at the end, pure": ("end", verify, "1"),
    "verify, region at the start": ("start", verify, "0"),
    "verify, region at the start, pure": ("start", verify, "1"),
    "with the file's hash, at the end": ("end", verify_and_name, "0"),
    "with the file's hash, at the start": ("start", verify_and_name, "0"),
    "scan for regions": ("end", scan, "0"),
    "scan for regions, pure": ("end", scan, "1"),
}


def child(case: str, path: str) -> None:
    """Measure one case once; imports are not part of its time, but of its memory."""
    _, function, _ = CASES[case]
    if function is not hashlib_alone:
        import importlib

        importlib.import_module("pypatcher.artifact")
        importlib.import_module("pypatcher.targets").load_targets()
    start = time.perf_counter()
    function(path)
    print(time.perf_counter() - start, eval(PEAK))


def measure(case: str, path: str) -> tuple[float, int]:
    """Seconds, and KiB of peak memory, in a fresh process."""
    import os
    import subprocess

    command = [sys.executable, __file__, "--child", case, path]
    environment = os.environ | {"PYPATCHER_NO_EXTENSIONS": CASES[case][2]}
    seconds, peak = subprocess.run(command, env=environment, check=True, capture_output=True).stdout.split()
    return float(seconds), int(peak)


def main() -> None:
    """Measure every case in turn and print the table."""
    import argparse
    import statistics
    import subprocess
    import tempfile

    from pypatcher.artifact import hashing, sections

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    size = args.size_mb * 1_000_000
    idle = int(subprocess.check_output([sys.executable, "-c", f"print({PEAK})"]))
    runs: dict[str, list[tuple[float, int]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(folder, size)
        for _ in range(args.rounds):
            for case, (name, _, _) in CASES.items():
                runs[case].append(measure(case, files[name]))
    base = statistics.median(seconds for seconds, _ in runs["hashlib alone"])
    compiled = hashing.COMPILED and sections.COMPILED
    print(f"{args.size_mb} MB, {args.rounds} rounds, extensions {'in use' if compiled else 'MISSING'}")
    print(f"{'':<36}{'MB/s':>8}{'x hashlib':>11}{'peak above interpreter':>25}")
    for case, values in runs.items():
        seconds = statistics.median(value[0] for value in values)
        peak = max(value[1] for value in values) - idle
        print(f"{case:<36}{size / seconds / 1e6:>8.0f}{base / seconds:>11.2f}{peak / 1024:>22.1f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4])
    else:
        main()
