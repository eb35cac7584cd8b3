"""Who holds which lock, read from ``/proc/locks``: for commands that only look, and so must take no lock themselves."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_locked", "seen_marks"]

_LOCKS = Path("/proc/locks")


def is_locked(path: Path) -> bool | None:
    """Whether somebody holds a flock on the file at ``path``; None if that cannot be told here.

    Btrfs and overlays show other device numbers there than ``stat`` does, so the inode decides, and where we may look,
    whether the holder has that file open.
    """
    inode = _inode(path)
    lines = None if inode is None else _lines()
    if lines is None:
        return None
    return any(_names(words, "FLOCK", inode) and _has_open(words[4], path) for words in lines)


def seen_marks(path: Path) -> list[tuple[int, int]]:
    """Who locked which byte of the file at ``path`` by a record lock, as far as can be seen here: pid and offset."""
    inode = _inode(path)
    marks = [words for words in _lines() or () if inode and _names(words, "POSIX", inode) and len(words) > 6]
    return [(int(words[4]), int(words[6])) for words in marks]


def _inode(path: Path) -> int | None:
    """0 where there is no such file."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _lines() -> list[list[str]] | None:
    try:
        return [line.split() for line in _LOCKS.read_text(encoding="ascii", errors="replace").splitlines()]
    except OSError:
        return None


def _names(words: list[str], kind: str, inode: int | None) -> bool:
    """Whether a line of the file is a lock that is held (one that is waited for has an arrow) on that inode."""
    return len(words) > 5 and words[1] == kind and words[5].rpartition(":")[2] == str(inode)


def _has_open(pid: str, path: Path) -> bool:
    folder = Path("/proc") / pid / "fd"
    try:
        return any(os.path.realpath(entry) == str(path) for entry in folder.iterdir())
    except OSError:
        return True  # another user's, or it ended and a child of it holds on
