"""What the stable ABI costs: the extensions built for it, side by side with the same ones built for one Python.

One abi3 wheel serves every Python from 3.11 on; for that its extensions may use less of Python. Both are compiled here
from the same C file, and take turns in processes of each interpreter: read the ratio.

    python bench/limited_api.py [--python /usr/bin/python3.13 ...] [--rounds 5]

The stable one is compiled once, with this Python's headers, as the wheel is; the other one for each interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = {"hashing": "_hashing_c", "sections": "_sections_c"}
STABLE = ("-DPy_LIMITED_API=0x030B0000", "-DCYTHON_LIMITED_API=1")
LARGE = 50 * 1000 * 1000


def compile_extensions(folder: Path, include: str, macros: tuple[str, ...]) -> None:
    """Both extensions for the Python whose headers are in ``include``."""
    folder.mkdir()
    for source, module in SOURCES.items():
        translated = folder.parent / f"{source}.c"
        command = ["cc", "-O2", "-DNDEBUG", "-fwrapv", "-fPIC", "-shared", "-D_GNU_SOURCE", f"-I{include}", *macros]
        subprocess.run([*command, translated, "-o", folder / f"{module}.so"], check=True)


def translate(folder: Path) -> None:
    """From Cython to C, by the names that the modules have in the package."""
    for source, module in SOURCES.items():
        wanted = f"pypatcher.artifact.{module}"
        subprocess.run(
            [sys.executable, "-m", "cython", "-3", "--module-name", wanted, REPOSITORY / "_speedups" / f"{source}.pyx",
             "-o", folder / f"{source}.c"], check=True,
        )  # fmt: skip


def cases(folder: str, large: str) -> dict[str, Callable[[], Any]]:
    """One call of each kind."""
    import hashlib
    import importlib.util

    modules = {}
    for module in SOURCES.values():
        spec = importlib.util.spec_from_file_location(f"pypatcher.artifact.{module}", Path(folder) / f"{module}.so")
        assert spec is not None
        assert spec.loader is not None
        modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[module])
    hashing, sections = modules["_hashing_c"], modules["_sections_c"]
    head = Path("/proc/self/exe").read_bytes()[:64]
    words = [b"\0", *(b".name%d\0" % number for number in range(39))]
    names, offsets = b"".join(words), [len(b"".join(words[:number])) for number in range(40)]
    descriptor = os.open(large, os.O_RDONLY)
    digest = hashlib.sha512()
    return {
        "parse_header, 64 bytes": lambda: sections.parse_header(head),
        "section_names, 40 names": lambda: sections.section_names(names, offsets),
        "feed, 1 kB": lambda: hashing.feed(digest.update, descriptor, 0, 1000),
        "feed, 50 MB": lambda: hashing.feed(digest.update, descriptor, 0, LARGE),
        "find_all, 50 MB": lambda: hashing.find_all(descriptor, b"no such thing", 5),
    }


def measure(folder: str, large: str) -> None:
    """Print seconds a call of each case: the best of several runs of at least 20 ms."""
    found = {}
    for name, call in cases(folder, large).items():
        number, best = 1, 0.0
        while True:
            start = time.perf_counter()
            for _ in range(number):
                call()
            best = (time.perf_counter() - start) / number
            if best * number > 0.02:
                break
            number *= 4
        for _ in range(4):
            start = time.perf_counter()
            for _ in range(number):
                call()
            best = min(best, (time.perf_counter() - start) / number)
        found[name] = best
    print(json.dumps(found))


def main() -> None:
    """Build, measure in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], help="another interpreter, with its headers")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    headers = "import sysconfig; print(sysconfig.get_paths()['include'])"
    version = "import platform; print(platform.python_version())"
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        large = work / "large"
        large.write_bytes(os.urandom(1 << 20) * (LARGE >> 20) + bytes(1 << 20))
        translate(work)
        mine = subprocess.check_output([sys.executable, "-c", headers], text=True).strip()
        compile_extensions(work / "stable", mine, STABLE)
        for number, python in enumerate([sys.executable, *args.python]):
            theirs = subprocess.check_output([python, "-c", headers], text=True).strip()
            compile_extensions(work / f"own{number}", theirs, ())
            runs: dict[str, list[dict[str, float]]] = {"stable": [], f"own{number}": []}
            for _ in range(args.rounds):
                for kind, seen in runs.items():
                    command = [python, __file__, "--child", work / kind, large]
                    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
                    seen.append(json.loads(subprocess.check_output(command, env=environment)))
            print(f"Python {subprocess.check_output([python, '-c', version], text=True).strip()}")
            for case in runs["stable"][0]:
                stable, own = (min(seen[case] for seen in runs[kind]) for kind in runs)
                print(f"  {case:<28}{own * 1e6:>12.2f} us{stable * 1e6:>12.2f} us stable{stable / own:>8.2f} x")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        measure(*sys.argv[2:4])
    else:
        main()
