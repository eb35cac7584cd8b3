"""The peers from which one release is fetched just now, and whether there is anybody left to wait for.

Not here: what they are asked (``walking``, ``filling``), and who is asked at all (the updater).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from pypatcher.errors import CodecError, PeerBusyError, PeerError
from pypatcher.transfer.exchange import NobodyLeftError
from pypatcher.transfer.stall import StalledError
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport import CloseCode
from pypatcher.waiting import News, wait_at_most

__all__ = ["Members"]

_LOOK_AGAIN = 1.0
_ALONE = 30.0
"""Seconds for which others may come, once the last peer went without a fault."""
_SLOW_AFTER = 10.0
_IN_VAIN = 180.0
"""Seconds in which nobody gave anything, whoever is there: whoever waits for the end of a fetch waits no longer."""


class Members:
    """Those of one download.

    Attributes:
        news: told whenever something changed that somebody may wait for.
    """

    def __init__(self) -> None:
        self.news = News()
        self._clock = asyncio.get_running_loop().time
        self._there: dict[SessionV1, SwarmMember] = {}
        self._expected = 0
        self._came_before = 0
        self._left: set[bytes] = set()
        self._error: PeerError | None = None
        self._broken: Exception | None = None
        self._alone_since = self._gave_at = self._clock()
        self._gave = 0

    @property
    def there(self) -> Collection[SwarmMember]:
        """All that are asked."""
        return self._there.values()

    @property
    def are_complete(self) -> bool:
        """Whether nobody else is about to be asked."""
        return not self._expected

    @property
    def came(self) -> int:
        """Bytes that all sent, those that are gone included."""
        return self._came_before + sum(member.came for member in self._there.values())

    def takes(self, session: SessionV1) -> bool:
        """Whether that peer may become one: it is none yet, and did not fail in this download."""
        peer = session.connection.peer_id
        return not self.has_failed(session) and all(each.connection.peer_id != peer for each in self._there)

    def has(self, session: SessionV1) -> bool:
        """Whether that peer is asked on that connection."""
        return session in self._there

    def has_failed(self, session: SessionV1) -> bool:
        """Whether it did."""
        return session.connection.peer_id in self._left

    def add(self, member: SwarmMember) -> None:
        """It is asked from now on."""
        self._there[member.session] = member

    def see_off(self, member: SwarmMember, error: Exception | None) -> PeerError | None:
        """A peer is asked no more; the connection of one that lied or stalled ends. What it did wrong.

        What is no peer's fault is raised by ``until``.
        """
        connection = member.session.connection
        del self._there[member.session]
        self._came_before += member.came
        self._alone_since = self._clock()
        self.news.tell()
        if isinstance(error, CodecError):
            error = PeerError(f"the peer's answer makes no sense: {error}")
        if error is not None and not isinstance(error, PeerError):
            self._broken, error = error, None
        if isinstance(error, PeerError) and connection.peer_is_done and member.came == member.good:
            # It has all that it wanted, and went while we asked: that wasted nothing.
            error = PeerBusyError(str(error))
        self._error = error
        if isinstance(error, PeerError) and not (isinstance(error, PeerBusyError) or connection.is_closed):
            self._left.add(connection.peer_id)
            connection.close(CloseCode.STALLED if isinstance(error, StalledError) else CloseCode.PROTOCOL)
        return error

    @contextmanager
    def expecting(self) -> Iterator[Callable[[], None]]:
        """During the block another peer is about to be asked, until what this gives is called."""
        self._expected += 1
        is_expected = True

        def joined() -> None:
            nonlocal is_expected
            self._expected -= is_expected
            is_expected = False

        try:
            yield joined
        finally:
            joined()
            self.news.tell()

    async def until(self, is_done: Callable[[], bool]) -> None:
        """Wait for that, as long as there is somebody who may bring it about.

        Raises:
            PeerBusyError: whoever was asked serves as many as it may, and nothing came.
            NobodyLeftError: everybody failed, or nobody has, or gives, anything for us.
            OSError: what came cannot be kept.
        """
        while True:
            news = self.news.next
            if self._broken is not None:
                raise self._broken
            if is_done():
                return
            if not self._there and not self._expected:
                if isinstance(self._error, PeerBusyError) and not self.came:
                    raise self._error
                if self._error is not None or self._clock() - self._alone_since >= _ALONE:
                    raise NobodyLeftError(str(self._error or "nobody has it any more"))
            if self.came > self._gave or any(member.is_giving for member in self.there):
                self._gave, self._gave_at = self.came, self._clock()
            elif self._clock() - self._gave_at >= _IN_VAIN:
                raise NobodyLeftError("nobody gives anything of it")
            await wait_at_most(news, _LOOK_AGAIN)

    async def end(self) -> None:
        """Let all go, and wait until nobody writes any more."""
        for member in self._there.values():
            member.fail(None)
        while self._there:
            await self.news.next.wait()

    def drop_slowest(self) -> None:
        """Make place for another peer, once in a while."""
        now = self._clock()
        if self._there and all(now - member.joined >= _SLOW_AFTER for member in self._there.values()):
            slowest = min(self._there.values(), key=lambda member: member.rate(now))
            slowest.fail(StalledError("slow; somebody else is tried"))
