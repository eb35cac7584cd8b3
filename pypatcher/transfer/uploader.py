"""Serves the release that this node has to whoever asks, within the upload limits.

What is served was verified when it was handed over, and is looked at again before each upload: a file that somebody
changed since is not served, because its bytes would be held against us. Not here: the exchange (``server``) and its
limits (``upload_limits``). design.md "Transport and transfer".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pypatcher.artifact import PatchInfo
from pypatcher.errors import PatcherError
from pypatcher.install import LocalRelease
from pypatcher.keys import OwnerKey
from pypatcher.transfer import UploadLimiter, serve_release
from pypatcher.transport import Connection

__all__ = ["Distributor"]

_log = logging.getLogger("pypatcher")


class Distributor:
    """Answers the v0 exchange with the newest release that is held, or with none.

    Args:
        now: unix time, seconds; it only decides which auth values are current.
    """

    def __init__(self, owner: OwnerKey, limiter: UploadLimiter, *, now: Callable[[], float]) -> None:
        self._owner = owner
        self._limiter = limiter
        self._now = now
        self._served: LocalRelease | None = None
        self._is_unchanged: Callable[[], bool] = lambda: True

    @property
    def info(self) -> PatchInfo | None:
        """The release that is served now."""
        return None if self._served is None else self._served.info

    def hold(self, held: Sequence[LocalRelease], *, is_unchanged: Callable[[], bool] | None = None) -> None:
        """Serve the first of these verified files from now on; none serves nothing.

        Args:
            is_unchanged: whether that file still is what was verified; by default, whether it is what it is now.
        """
        self._served = held[0] if held else None
        if held:
            self._is_unchanged = is_unchanged or _unchanged_since_now(held[0].path)

    async def answer(self, connection: Connection) -> None:
        """Serve one connection; what goes wrong with it is its peer's loss alone."""
        await self.give(connection)

    async def give(self, connection: Connection, began: Callable[[], None] = lambda: None) -> bool:
        """Serve one connection, and tell when an upload begins; whether its peer has all of the release now."""
        try:
            given = await serve_release(
                connection,
                owner=self._owner,
                release=self._unchanged,
                limiter=self._limiter,
                now=self._now,
                began=began,
            )
        except (PatcherError, OSError) as error:
            _log.debug("an upload to %s ended: %s", connection.peer_address[0], error)
            return False
        return given > 0

    def _unchanged(self) -> LocalRelease | None:
        return self._served if self._is_unchanged() else None


def _unchanged_since_now(path: Path) -> Callable[[], bool]:
    signature = _signature(path)
    return lambda: _signature(path) == signature


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
