"""Where the cross build keeps its things, and how its steps run.

Everything lies in ``.cache/cross`` of the repository, nothing is installed into the host but Debian's own packages
(``cross.debian``). Steps run in a clean environment (``cross.clean``). What a step makes is made aside or without its
stamp, checked, and only then called done: whatever ended a run, the next one never takes half a thing for a whole one.
``make clean-cross`` removes it all.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cross.clean import UMASK, clean_environment

__all__ = [
    "CACHE",
    "DISTRIBUTION",
    "EPOCH",
    "HERE",
    "REPOSITORY",
    "StepFailedError",
    "check_place",
    "digest_of",
    "fresh_folder",
    "locked",
    "make_once",
    "place",
    "python_version",
    "replace_folder",
    "run",
    "say",
]

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
CACHE = REPOSITORY / ".cache" / "cross"

DISTRIBUTION = "peerpatcher"
"""What pip calls pypatcher: that name belongs to somebody else there."""

_STAMP = ".made"

EPOCH = "315532800"
"""SOURCE_DATE_EPOCH: the first second that a zip file can tell. Wheels say nothing of when they were built."""


class StepFailedError(Exception):
    """A step cannot be done; the message says what to do."""


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    output: Path | None = None,
) -> str:
    """Run a command to its end; returns its standard output, or writes it to ``output``.

    It sees `clean_environment` with ``environment`` added, whatever shell this was started from.

    Raises:
        StepFailedError: it failed; the message has what it wrote last.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, env=clean_environment(environment), umask=UMASK,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
    except OSError as error:
        raise StepFailedError(f"{' '.join(words)}\ncannot be started: {error.strerror}") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        last = "\n".join((text + done.stderr.decode(errors="replace")).splitlines()[-40:])
        raise StepFailedError(f"{' '.join(words)}\nended with status {done.returncode}:\n{last}")
    if output is not None:
        output.write_bytes(done.stdout)
        return ""
    return text


def check_place() -> None:
    """Can things be built in this folder?

    Raises:
        StepFailedError: its path has a character that compilers' tools take for one of their own.
    """
    strange = sorted(set(re.sub(r"[\w/.+@~,-]", "", str(REPOSITORY))))
    if strange:
        names = ", ".join("a space" if character == " " else repr(character) for character in strange)
        raise StepFailedError(
            f"the path of this checkout has {names} in it, which compilers' build tools do not bear: move it\n"
            f"({REPOSITORY})"
        )


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process at a time does what is named so; a second one waits and then finds it done."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest_of(*files: Path, names: Sequence[str] = ()) -> str:
    """A short name for what is in these files (and for ``names``)."""
    parts = [*(name.encode() for name in names), *(file.read_bytes() for file in files)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:12]


def fresh_folder(path: Path) -> Path:
    """Make ``path`` an empty folder."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path


def make_once(folder: Path, identity: str, fill: Callable[[Path], None], *, movable: bool = True) -> Path:
    """``folder``, filled by ``fill`` unless a whole one of this ``identity`` is there already.

    Whole is what has its stamp, which is written last. What knows its own path by name, as a virtual environment does,
    is not ``movable``: it is filled in its place, and one that was copied from elsewhere is made anew.
    """
    stamp = f"{identity}\n" if movable else f"{identity} {folder}\n"
    if _read(folder / _STAMP) == stamp:
        return folder
    work = fresh_folder(folder.with_name(f"{folder.name}.new") if movable else folder)
    fill(work)
    (work / _STAMP).unlink(missing_ok=True)  # it may be a link to that of another folder
    (work / _STAMP).write_text(stamp, encoding="utf-8")
    if movable:
        replace_folder(work, folder)
    return folder


def replace_folder(new: Path, folder: Path) -> None:
    """Put the finished folder ``new`` into the place of ``folder``, of which nothing stays."""
    old = folder.with_name(f"{folder.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    if old.exists():
        shutil.rmtree(old)


def place(file: Path, folder: Path) -> Path:
    """Copy a finished file into ``folder``, in which it never is there in part; returns the copy."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{file.name}.part"
    shutil.copy2(file, part)
    return part.replace(folder / file.name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def python_version() -> str:
    """``x.y`` of this Python, which crossenv wants to be the target's as well."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
