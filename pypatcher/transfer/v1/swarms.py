"""The releases that one node fetches by their trees just now: who may help, what peers are told, who stays connected.

Not here: how one is fetched (``swarm``), and which are wanted.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.patch import MAX_FILE_SIZE
from pypatcher.errors import ContentMismatchError, PeerBusyError
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.stall import StallRule
from pypatcher.transfer.v1.messages import NO_PARTS
from pypatcher.transfer.v1.old_files import OldFiles
from pypatcher.transfer.v1.part_held import PartHeld
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transfer.v1.swarm import SwarmDownload
from pypatcher.transfer.v1.walking import Roots
from pypatcher.waiting import News

__all__ = ["Swarms"]

_VERIFIED_WITHIN = 60.0
"""Seconds for which a file that came whole is given on until it is held: it is verified meanwhile."""
_KEPT = 32
"""Connections that stay while both sides fetch the same release."""


class Swarms:
    """One node's.

    Args:
        node_id: ours.
        sessions: those that are open.

    Attributes:
        news: told when we fetch another release, or have more of one.
    """

    def __init__(self, node_id: bytes, stall: StallRule, sessions: Callable[[], Collection[SessionV1]]) -> None:
        self.news = News()
        self._node_id, self._stall, self._sessions = node_id, stall, sessions
        self._rng = random.Random()  # noqa: S311 - whom to ask for what
        self._under_way: dict[bytes, SwarmDownload] = {}
        self._came: PartHeld | None = None
        self._given_until: asyncio.TimerHandle | None = None

    async def fetch(
        self, session: SessionV1, info: PatchInfo, roots: Roots, sink: Sink, *, old: OldFiles, drop: Callable[[], None]
    ) -> None:
        """Fetch a release, from that peer first; see ``SwarmDownload.run``."""
        if info.file_size > MAX_FILE_SIZE:
            raise ContentMismatchError(f"a file of {info.file_size} bytes is more than the {MAX_FILE_SIZE} allowed")
        if info.release_id in self._under_way:
            raise PeerBusyError("it is fetched already")
        swarm = SwarmDownload(info, roots, sink, self._stall, node_id=self._node_id, rng=self._rng)
        self._under_way[info.release_id] = swarm
        for other in self._sessions():
            swarm.hear(other)
        telling = asyncio.create_task(self._tell_of(swarm))
        try:
            await swarm.run(session, old, drop)
            self._give_up()
            self._came = swarm.take_whole()
            self._given_until = asyncio.get_running_loop().call_later(_VERIFIED_WITHIN, self._give_up)
        finally:
            del self._under_way[info.release_id]
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self.news.tell()

    async def help(self, info: PatchInfo, reach: Callable[[], AbstractAsyncContextManager[SessionV1]]) -> None:
        """Take parts of what is fetched from one more peer.

        Raises:
            PeerError: it cannot be reached.
        """
        swarm = self._under_way.get(info.release_id)
        if swarm is None:
            return
        with swarm.members.expecting() as joined:
            async with reach() as session:
                await session.attended()
                joined()
                await swarm.take_from(session)

    def is_fetching(self, info: PatchInfo) -> bool:
        """Whether others may help with it."""
        return info.release_id in self._under_way

    def drop_slowest(self, info: PatchInfo) -> None:
        """Of those that help, make place for another."""
        if (swarm := self._under_way.get(info.release_id)) is not None:
            swarm.members.drop_slowest()

    def part_of(self, release_id: bytes) -> PartHeld | None:
        """What is here of a release, for others to take; None while it is not fetched.

        Raises:
            PeerBusyError: it is, and nothing is here yet.
        """
        swarm = self._under_way.get(release_id)
        if swarm is not None and swarm.part is None:
            raise PeerBusyError("nothing is here of it yet")
        if swarm is None and self._came is not None and self._came.info.release_id == release_id:
            return self._came
        return None if swarm is None else swarm.part

    def hear(self, session: SessionV1) -> None:
        """A peer said what it has, or is gone."""
        for swarm in self._under_way.values():
            swarm.hear(session)

    def say(self) -> tuple[PatchInfo | None, bytes]:
        """What HELLO says: the newest that is fetched, and a bitmap of its parts."""
        swarm = self._newest
        if swarm is None and self._came is not None:
            return self._came.info, self._came.plan.bitmap()
        return (None, NO_PARTS) if swarm is None else (swarm.info, swarm.bitmap)

    def keeps(self, session: SessionV1) -> bool:
        """Whether a connection stays: while both sides fetch the same release; 32 at most."""
        swarm, hello = self._newest, session.hello
        if swarm is None or hello is None or hello.fetching != swarm.info:
            return False
        others = (each for each in self._sessions() if each.hello and each.hello.fetching == swarm.info)
        return session in itertools.islice(others, _KEPT)

    def _give_up(self) -> None:
        """What came whole last is held by now, or is not what it was taken for."""
        if self._came is not None:
            self._came.close()
            self._came = None
            self.news.tell()
        if self._given_until is not None:
            self._given_until.cancel()
            self._given_until = None

    @property
    def _newest(self) -> SwarmDownload | None:
        return max(self._under_way.values(), key=lambda swarm: swarm.info.version, default=None)

    async def _tell_of(self, swarm: SwarmDownload) -> None:
        while True:
            news = swarm.news.next
            self.news.tell()
            await news.wait()
