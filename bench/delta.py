"""How many bytes a device fetches that has the release before: the chunk tree beside the ways that others take.

Programs are built here, before and after a change, and compared side by side: (a) one line of a PyInstaller onefile,
ordinary build, (b) the same with PYTHONHASHSEED=0, (c) another release of a dependency, (d) a C program that is
recompiled, (e) a Nuitka onefile, (f) a zipapp with a compiled dependency. `plain` counts missing ranges, deflated where
that is shorter, and the nodes of the tree that the old file lacks; `ours` the same with zlib streams opened. `flat` is
as zsync does it: blocks of 4096 bytes that are found anywhere in the old file by a rolling sum, and an index of 8 bytes
for each block; what is missing is deflated as ours.

    python -m bench.delta [--only a,b] [--folder KEEP]

(e) and (e2) take many minutes and `make packagings`'s tools: only by --only. Needs gcc and zstd.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import bsdiff4
import numpy as np

from pypatcher.artifact.compare import compare_files

PAGE = Path(__file__).parents[1]
BLOCK = 4096
FUNCTIONS = 2000
BLOCK_INDEX = 8
"""Bytes of index for each block, as zsync has them for files of this size."""
PIECE = 8 << 20
NOTHING = np.zeros(1, np.uint64)

APP = """\
import sys

import aiohttp
import cryptography.hazmat.primitives.asymmetric.ed25519
import cryptography.x509
import numpy

print("{version}", sys.version, numpy.zeros(3))
"""
ZIPPED = 'import cryptography.x509\n\nprint("{version}")\n'
SMALL = 'import asyncio\nimport json\n\nprint("{version}", json.dumps([1]), asyncio.run)\n'
Pair = tuple[Path, Path]


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    """Run a tool quietly; what it said is seen when it fails."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean.get('PATH', '')}"
    done = subprocess.run(
        [str(each) for each in command], check=False, cwd=cwd, env=clean | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout[-3000:]}")


def onefile(folder: Path, name: str, version: str, **environment: str) -> Path:
    """A PyInstaller onefile of APP, built in a folder of its own, once."""
    place = folder / name
    built = place / "dist" / "app"
    if not built.exists():
        place.mkdir(parents=True, exist_ok=True)
        (place / "app.py").write_text(APP.format(version=version))
        tool = Path(sys.executable).with_name("pyinstaller")
        run(tool, "--onefile", "--log-level", "ERROR", "app.py", cwd=place, **environment)
    return built


def line_ordinary(folder: Path) -> Pair:
    """(a)"""
    return onefile(folder, "ordinary-1", "1.0.0"), onefile(folder, "ordinary-2", "1.0.1")


def line_fixed(folder: Path) -> Pair:
    """(b)"""
    fixed = {"PYTHONHASHSEED": "0"}
    return onefile(folder, "fixed-1", "1.0.0", **fixed), onefile(folder, "fixed-2", "1.0.1", **fixed)


def dependency(folder: Path) -> Pair:
    """(c): the release before the one that is installed comes first on the path."""
    before = folder / "before"
    if not before.exists():
        pins = PAGE / "requirements" / "before.txt"
        run(
            sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes",
            "--no-deps", "--target", before, "-r", pins, cwd=PAGE,
        )  # fmt: skip
    old = onefile(folder, "fixed-before", "1.0.0", PYTHONHASHSEED="0", PYTHONPATH=str(before))
    return old, line_fixed(folder)[0]


def recompiled(folder: Path) -> Pair:
    """(d): a program of 2000 functions; the first grows by a line, and all behind it move."""
    folder = folder / "c"
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for name, line in (
        ("before", ""),
        ("after", 'puts("one line more"); total += x * 17; if (total & 4096) puts("!");'),
    ):
        (folder / "app.c").write_text(c_source(line))
        run("gcc", "-O2", "-o", name, "app.c", cwd=folder)
        built.append(folder / name)
    return built[0], built[1]


def c_source(line: str) -> str:
    """A table of functions that call each other by turns."""
    functions = [
        f"""static unsigned f{number}(unsigned x) {{
    unsigned total = {number * 2654435761 % 2**32}u;
    {line if number == 3 else ""}
    for (unsigned at = 0; at < (x & {number % 29 + 3}); at++) {{
        total = total * {number * 40503 % 65521 + 3}u + (at ^ x) % {number % 97 + 2}u;
        if ((total & {number % 7 + 1}) == at) printf("{number}: %u\\n", total);
    }}
    return total ^ {f"f{number // 2}(x / 2 + total % 3)" if number else "x"};
}}"""
        for number in range(FUNCTIONS)
    ]
    table = ", ".join(f"f{number}" for number in range(FUNCTIONS))
    return (
        "#include <stdio.h>\n" + "\n".join(functions) + f"\nstatic unsigned (*const all[])(unsigned) = {{{table}}};\n"
        "int main(int count, char **words) { (void)words; unsigned sum = 0;\n"
        "for (unsigned i = 0; i < sizeof all / sizeof *all; i++) sum += all[i](count + i); return sum & 1; }\n"
    )


def nuitka(folder: Path, *, packed: bool = True) -> Pair:
    """(e): its payload is one zstd stream, or the files one by one as they are."""
    built = []
    for name, version in (("nuitka-1", "1.0.0"), ("nuitka-2", "1.0.1")):
        place = folder / (name if packed else f"{name}-plain")
        if not (place / "app.bin").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "app.py").write_text(SMALL.format(version=version))
            options = ("--mode=onefile", "--quiet", "--assume-yes-for-downloads", "--output-filename=app.bin")
            options += () if packed else ("--onefile-no-compression",)
            run(sys.executable, "-m", "nuitka", *options, "app.py", cwd=place, PYTHONHASHSEED="0")
        built.append(place / "app.bin")
    return built[0], built[1]


def zipapp(folder: Path) -> Pair:
    """(f): packed twice, as on two days; all dates are fixed."""
    source = folder / "zipapp-source"
    if not source.exists():
        options = ("--disable-pip-version-check", "--require-hashes", "--no-deps", "--no-compile", "-q")
        pins = folder / "pins.txt"
        pins.parent.mkdir(parents=True, exist_ok=True)
        pins.write_text(pinned("cryptography") + pinned("cffi"))
        run(sys.executable, "-m", "pip", "install", *options, "--target", source, "-r", pins, cwd=PAGE)
    built = []
    for name, version in (("zipapp-1", "1.0.0"), ("zipapp-2", "1.0.1")):
        (source / "__main__.py").write_text(ZIPPED.format(version=version))
        packed = folder / name
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(source.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.writestr(
                        zipfile.ZipInfo(str(path.relative_to(source))), path.read_bytes(), zipfile.ZIP_DEFLATED
                    )
        built.append(packed)
    return built[0], built[1]


def pinned(name: str) -> str:
    """The lines of one package in the pins that everything is built with."""
    text = (PAGE / "requirements" / "wheelhouse.txt").read_text()
    start = text.index(f"\n{name}==") + 1
    end = text.find("\n", start)
    while text[end - 1] == "\\":
        end = text.find("\n", end + 1)
    return text[start : end + 1]


CASES: dict[str, tuple[str, Callable[[Path], Pair]]] = {
    "a": ("one line, ordinary onefile", line_ordinary),
    "b": ("one line, PYTHONHASHSEED=0", line_fixed),
    "c": ("another cryptography inside", dependency),
    "d": ("a C program recompiled", recompiled),
    "e": ("one line, Nuitka onefile", nuitka),
    "e2": ("the same, --onefile-no-compression", lambda folder: nuitka(folder, packed=False)),
    "f": ("one line, zipapp", zipapp),
}
BY_DEFAULT = "a,b,c,d,f"


def ours(old: Path, new: Path) -> int:
    """The chunk tree."""
    return compare_files(old, new).moved


def opened(old: Path, new: Path) -> int:
    """The same, with zlib streams opened, where devices do that."""
    found = compare_files(old, new)
    return found.moved if found.opened is None else found.opened


def bsdiff(old: Path, new: Path) -> int:
    """bsdiff4: the owner makes a patch from each old release."""
    return len(bsdiff4.diff(old.read_bytes(), new.read_bytes()))


def zstd(old: Path, new: Path) -> int:
    """zstd --patch-from at its highest level: as bsdiff, a patch from each old release."""
    options = ("--ultra", "-22", "--long=31", "-q", "-c", f"--patch-from={old}")
    return len(subprocess.run(["zstd", *options, new], check=True, capture_output=True).stdout)


def flat(old: Path, new: Path) -> int:
    """Fixed blocks of the new file that are found anywhere in the old one, as zsync does."""
    data, source = new.read_bytes(), old.read_bytes()
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    sums = np.array(
        [int(rolling(np.frombuffer(each, np.uint8))[0]) for each in blocks if len(each) == BLOCK], np.uint64
    )
    wanted = set(blocks)
    found: set[bytes] = set()
    for start in range(0, len(source) - BLOCK + 1, PIECE):
        part = np.frombuffer(source, np.uint8, min(PIECE + BLOCK - 1, len(source) - start), start)
        for at in np.flatnonzero(np.isin(rolling(part), sums)):
            block = source[start + int(at) : start + int(at) + BLOCK]
            if block in wanted:
                found.add(block)
    missing = runs([each not in found for each in blocks], blocks)
    return sum(min(len(each), len(zlib.compress(each))) for each in missing) + BLOCK_INDEX * len(blocks)


def rolling(data: np.ndarray) -> np.ndarray:
    """For each offset a sum of the bytes of the block that begins there, and one in which each counts by its place."""
    before = np.concatenate((NOTHING, np.cumsum(data, dtype=np.uint64)))
    placed = np.concatenate((NOTHING, np.cumsum(data * np.arange(len(data), dtype=np.uint64), dtype=np.uint64)))
    count = len(data) - BLOCK + 1
    plain = before[BLOCK:] - before[:count]
    weighted = placed[BLOCK:] - placed[:count] - plain * np.arange(count, dtype=np.uint64)
    return plain << np.uint64(32) | weighted & np.uint64(0xFFFFFFFF)


def runs(missing: list[bool], blocks: list[bytes]) -> list[bytes]:
    """What is missing, in one piece where it stands together."""
    found: list[list[bytes]] = []
    for at, (is_missing, block) in enumerate(zip(missing, blocks, strict=True)):
        if is_missing and at and missing[at - 1]:
            found[-1].append(block)
        elif is_missing:
            found.append([block])
    return [b"".join(each) for each in found]


WAYS: dict[str, Callable[[Path, Path], int]] = {
    "plain": ours,
    "ours": opened,
    "bsdiff4": bsdiff,
    "zstd": zstd,
    "flat": flat,
}


def main() -> None:
    """Print a row for each change."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=BY_DEFAULT, help=f"letters (default: {BY_DEFAULT})")
    parser.add_argument("--folder", type=Path, help="keep what is built there, and use what is there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = args.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"| change | whole file | {' | '.join(WAYS)} |")
        print("| --- |" + " ---: |" * (1 + len(WAYS)))
        for letter in args.only.split(","):
            title, build = CASES[letter]
            old, new = build(folder.resolve())
            size = new.stat().st_size
            cells = (f"{moved} ({100 * moved / size:.3g} %)" for moved in (way(old, new) for way in WAYS.values()))
            print(f"| ({letter}) {title} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
