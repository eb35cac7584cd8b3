"""Who holds a flock, read from ``/proc/locks``: for commands that only look, and so must take no lock themselves."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_locked"]


def is_locked(path: Path, locks: Path = Path("/proc/locks")) -> bool | None:
    """Whether somebody holds a flock on the file at ``path``; None if that cannot be told here.

    Btrfs and overlays show other device numbers there than ``stat`` does, so the inode decides, and where we may look,
    whether the holder has that file open.
    """
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        lines = locks.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return any(_names(line.split(), inode) and _has_open(line.split()[4], path) for line in lines)


def _names(words: list[str], inode: int) -> bool:
    """Whether a line of the file is a flock that is held (one that is waited for has an arrow) on that inode."""
    return len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode)


def _has_open(pid: str, path: Path) -> bool:
    folder = Path("/proc") / pid / "fd"
    try:
        return any(os.path.realpath(entry) == str(path) for entry in folder.iterdir())
    except OSError:
        return True  # another user's, or it ended and a child of it holds on
