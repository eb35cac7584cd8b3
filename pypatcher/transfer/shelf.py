"""What this node gives to others, and how much of it: releases on disk, and the upload limits over all protocols.

A file was verified when it was handed over, and is looked at again before each upload: what somebody changed since is
not served, because its bytes would be held against us. How it travels is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pypatcher.addresses import Address, network_of
from pypatcher.artifact import PatchInfo
from pypatcher.budgets import UploadLimiter
from pypatcher.install import LocalRelease
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.waiting import News

__all__ = ["Shelf"]

_MOST = 4
_SAID_OF_ONE, _SAID = 16, 240
"""How often in an hour it is said that a network has a release, and that any has one."""


class Shelf:
    """The releases that are held, at most 4, the newest first.

    Args:
        may_be_announced: whether a release may be named and given where older nodes read: in slots, by offers and v0.

    Attributes:
        limiter: the node's upload limits.
        news: told when something else is held.
    """

    def __init__(
        self, limiter: UploadLimiter, may_be_announced: Callable[[PatchInfo], bool] = lambda _info: True
    ) -> None:
        self.limiter = limiter
        self.news = News()
        self._may_be_announced = may_be_announced
        self._held: dict[LocalRelease, Callable[[], bool]] = {}
        self._said = WindowLimiter()

    @property
    def held(self) -> Sequence[PatchInfo]:
        """All that are held."""
        return [one.info for one in self._held]

    @property
    def info(self) -> PatchInfo | None:
        """The newest that is held now and may be announced to everybody."""
        return next(filter(self._may_be_announced, self.held), None)

    @property
    def quiet(self) -> Sequence[PatchInfo]:
        """Those that are named only to who looks for them: the owner's word opens them to few."""
        return [info for info in self.held if not self._may_be_announced(info)]

    def put(self, held: Sequence[LocalRelease], *, is_unchanged: Callable[[], bool] | None = None) -> None:
        """Give these verified files from now on; none gives nothing.

        Args:
            is_unchanged: whether those files still are what was verified; by default, whether they are what they are
                now.
        """
        self._held = {one: is_unchanged or _unchanged_since_now(one.path) for one in held[:_MOST]}
        self.news.tell()

    def release(self) -> LocalRelease | None:
        """What may be given to everybody now; None when nothing is held, or the file was changed."""
        return self._unchanged(lambda info: info == self.info)

    def find(self, release_id: bytes) -> LocalRelease | None:
        """The release of that id, for who knows the owner's word; None when it is not held, or was changed."""
        return self._unchanged(lambda info: info.release_id == release_id)

    def is_news(self, info: PatchInfo, taker: Address) -> bool:
        """Whether to say that somebody there has all of a release from us; if so it is counted.

        Whoever says so himself, again and again, fills no disk with it.
        """
        limits = [Limit((info, network_of(taker)), _SAID_OF_ONE, 3600.0), Limit(None, _SAID, 3600.0)]
        is_news = self._said.allows(limits, now := self.limiter.now())
        if is_news:
            self._said.count(limits, now)
        return is_news

    def _unchanged(self, is_it: Callable[[PatchInfo], bool]) -> LocalRelease | None:
        return next((one for one, is_unchanged in self._held.items() if is_it(one.info) and is_unchanged()), None)


def _unchanged_since_now(path: Path) -> Callable[[], bool]:
    signature = _signature(path)
    return lambda: _signature(path) == signature


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
