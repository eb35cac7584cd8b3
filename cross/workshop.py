"""Where the cross build keeps its things, and how its steps run.

Everything lies in ``.cache/cross`` of the repository, nothing is installed into the host but Debian's own packages
(``cross.debian``). A finished step leaves a stamp and is not done again; ``make clean-cross`` removes it all.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "CACHE",
    "EPOCH",
    "HERE",
    "REPOSITORY",
    "StepFailedError",
    "digest_of",
    "fresh_folder",
    "locked",
    "python_version",
    "run",
    "say",
]

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
CACHE = REPOSITORY / ".cache" / "cross"

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
    unset: Sequence[str] = (),
    output: Path | None = None,
) -> str:
    """Run a command to its end; returns its standard output, or writes it to ``output``. ``environment`` is added.

    Raises:
        StepFailedError: it failed; the message has what it wrote last.
    """
    everything = {**os.environ, **(environment or {})}
    for name in unset:
        everything.pop(name, None)
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=everything, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        last = "\n".join((text + done.stderr.decode(errors="replace")).splitlines()[-40:])
        raise StepFailedError(f"{' '.join(words)}\nended with status {done.returncode}:\n{last}")
    if output is not None:
        output.write_bytes(done.stdout)
        return ""
    return text


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


def python_version() -> str:
    """``x.y`` of this Python, which crossenv wants to be the target's as well."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"
