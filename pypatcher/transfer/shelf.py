"""What this node gives to others, and how much of it: one release on disk, and the upload limits over all protocols.

A file was verified when it was handed over, and is looked at again before each upload: what somebody changed since is
not served, because its bytes would be held against us. How it travels is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pypatcher.artifact import PatchInfo
from pypatcher.install import LocalRelease
from pypatcher.transfer.upload_limits import UploadLimiter

__all__ = ["Shelf"]


class Shelf:
    """The newest release that is held, or none.

    Attributes:
        limiter: the node's upload limits.
    """

    def __init__(self, limiter: UploadLimiter) -> None:
        self.limiter = limiter
        self._held: LocalRelease | None = None
        self._is_unchanged: Callable[[], bool] = lambda: True

    @property
    def info(self) -> PatchInfo | None:
        """The release that is held now."""
        return None if self._held is None else self._held.info

    def put(self, held: Sequence[LocalRelease], *, is_unchanged: Callable[[], bool] | None = None) -> None:
        """Give the first of these verified files from now on; none gives nothing.

        Args:
            is_unchanged: whether that file still is what was verified; by default, whether it is what it is now.
        """
        self._held = held[0] if held else None
        if held:
            self._is_unchanged = is_unchanged or _unchanged_since_now(held[0].path)

    def release(self) -> LocalRelease | None:
        """What may be given now; None when nothing is held, or the file was changed."""
        return self._held if self._is_unchanged() else None


def _unchanged_since_now(path: Path) -> Callable[[], bool]:
    signature = _signature(path)
    return lambda: _signature(path) == signature


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
