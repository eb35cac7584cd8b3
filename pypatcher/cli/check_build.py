"""``pypatcher check-build``: builds twice, in two folders, and says what differs and how to mend it.

Copies, runs and prints. Not here: what is compared, and the mends (``artifact.builds``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.cli.options import add_json, print_json
from pypatcher.errors import ArtifactError, SettingError

if TYPE_CHECKING:
    from pypatcher.artifact.builds import Difference

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "build a program twice, and say whether it comes out the same"
EXAMPLES = """\
  PYTHONHASHSEED=0 pypatcher check-build dist/app -- pyinstaller --onefile app.py
  pypatcher check-build app -- gcc -O2 -o app app.c

Only a program that comes out the same from the same source gives small updates. The current folder is copied twice,
without __pycache__, build, dist, .git and the like; the second copy has another path, and files of other dates. The
command runs in each, and makes FILE there. What another machine, user or compiler would change is not seen.
Status 1 if the builds differ."""

_LEFT_OUT = ("__pycache__", "build", "dist", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".cache")
_FOLDERS = ("one", "the-other")
_DAY = 86400
_PAUSE = 3.0
"""Seconds between the starts at least: a date in a zip file is of every second second."""
_SHOWN = 20
_STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``check-build``."""
    parser.usage = "pypatcher check-build [--json] FILE -- COMMAND [ARGUMENT ...]"
    add_json(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="what the command makes, within this folder")
    parser.add_argument("build", metavar="COMMAND", help="the command that builds it")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="its arguments")


def run(args: argparse.Namespace) -> int:
    """Build twice and compare; 1 if the builds differ.

    Raises:
        SettingError: FILE is not within this folder.
        ArtifactError: the command failed, or did not make FILE.
        OSError: the folder cannot be copied.
    """
    from pypatcher.artifact.builds import compare_builds
    from pypatcher.artifact.compare import compare_files

    if args.file.is_absolute() or ".." in args.file.parts:
        raise SettingError(f"{args.file}: name the file as it is called from this folder, such as dist/app")
    with tempfile.TemporaryDirectory(prefix="pypatcher-") as place:
        folders = [Path(place, each, Path.cwd().name or "source") for each in _FOLDERS]
        began = 0.0
        for folder in folders:
            _copy(folder, is_second=folder is folders[1])
            time.sleep(max(0.0, began + _PAUSE - time.monotonic()))
            began = time.monotonic()
            _build(folder, [args.build, *args.arguments], args.file)
        first, second = (folder / args.file for folder in folders)
        differences = compare_builds(first, second, (os.fsencode(folders[0]), os.fsencode(folders[1])))
        moved = compare_files(first, second).moved if differences else 0
        size = second.stat().st_size
    if args.json:
        parts = [{"name": each.name, "cause": each.cause.name.lower()} for each in differences]
        print_json({"same": not differences, "size": size, "moved": moved, "differences": parts})
    elif differences:
        print("\n".join(_lines(args.file, size, moved, differences)))
    else:
        print(f"{args.file}: {size} bytes, the same both times")
    return 1 if differences else 0


def _copy(folder: Path, *, is_second: bool) -> None:
    elsewhere: list[Path] = []

    def left_out(parent: str, names: list[str]) -> set[str]:
        environments = [name for name in names if Path(parent, name, "pyvenv.cfg").exists()]
        elsewhere.extend(Path(parent, name) for name in environments)
        return {*environments, *(name for name in names if name in _LEFT_OUT)}

    shutil.copytree(".", folder, symlinks=True, ignore=left_out)
    for environment in elsewhere:
        # It works where it was made alone.
        (folder / environment).symlink_to(environment.resolve())
    if is_second:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                date = path.stat().st_mtime
                # A zip file takes no date before 1980.
                date += -_DAY if date > 20 * 365 * _DAY else _DAY
                os.utime(path, (date, date))


def _build(folder: Path, command: list[str], file: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=_STDERR, check=False)
    except OSError as error:
        raise ArtifactError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise ArtifactError(f"{command[0]} failed, with status {done.returncode}")
    if not (folder / file).is_file():
        raise ArtifactError(f"{command[0]} made no {file} in a copy of this folder")


def _lines(file: Path, size: int, moved: int, differences: list[Difference]) -> list[str]:
    lines = [f"{file}: the builds differ; devices with one fetch {moved} of {size} bytes ({100 * moved / size:.2f} %)"]
    lines += [f"  {_printable(each.name)}: {each.cause.what}" for each in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"  and {len(differences) - _SHOWN} more members")
    causes = dict.fromkeys(each.cause for each in differences)
    return [*lines, "To mend it:", *(f"  {cause.what}: {cause.mend}" for cause in causes)]


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name) or "(the whole)"
