"""Puts a question to whichever peer may know the answer, and to a second one if the first takes its time.

protocol.md "Only what is new". One question at a time; who says that it does not know is not asked again. Not here:
what is asked (``walking``, ``opening``), and who the peers are (``members``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from pypatcher.errors import CodecError, PeerBusyError, PeerError
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.members import Members

__all__ = ["Asking", "NoTreeError"]

_PATIENCE = 2.0
"""Seconds after which another peer is asked the same."""
_OTHERS_COME = 5.0
"""Seconds in which another that is dialed may turn out to know it; who is asked nothing ends its connection."""
_Answer = TypeVar("_Answer")
_Question = Callable[[SwarmMember], Coroutine[Any, Any, _Answer | None]]


class NoTreeError(Exception):
    """Nobody who is asked can tell the tree; nobody is to blame."""


class Asking:
    """Questions about one tree.

    Args:
        members: who is asked.
        knows: whether a peer says to have what the answer is taken from.
        waits: for those that may have it later, and those that are about to be asked.
    """

    def __init__(
        self, members: Members, rng: random.Random, knows: Callable[[SwarmMember], bool], *, waits: bool = True
    ) -> None:
        self._members, self._rng, self._knows, self._waits = members, rng, knows, waits
        self._clock = asyncio.get_running_loop().time
        self._without: set[SwarmMember] = set()
        self._late: set[SwarmMember] = set()

    async def ask(self, question: _Question[_Answer], patience: float = _PATIENCE) -> _Answer:
        """The answer of whoever has one; ``question`` gives None for a peer that has not.

        Raises:
            NoTreeError: nobody has.
            PeerBusyError, NobodyLeftError: nobody is left to ask.
        """
        asking: dict[asyncio.Task[_Answer | None], SwarmMember] = {}
        until = self._clock() + _OTHERS_COME
        try:
            while True:
                news, able = self._members.news.next, list(filter(self._is_able, self._members.there))
                if able:
                    until = self._clock() + _OTHERS_COME
                elif self._members.there and (self._members.are_complete or self._clock() >= until or not self._waits):
                    raise NoTreeError("no peer has the tree")
                free = [each for each in able if self._may_tell(each) and each not in asking.values()]
                if free:
                    member = self._rng.choice([each for each in free if each not in self._late] or free)
                    asking[asyncio.create_task(question(member))] = member
                if not asking:
                    await self._members.until(partial(self._may_go_on, news, able, until))
                    continue
                done, _ = await asyncio.wait(asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (answer := self._look_at(asking.pop(task), task)) is not None:
                        self._late.update(asking.values())
                        return answer
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def _may_go_on(self, news: asyncio.Event, able: Sequence[SwarmMember], until: float) -> bool:
        """Whether something is new; who had no place for us says nothing when it has one."""
        is_over = bool(self._members.there) and self._clock() >= until
        return news.is_set() or is_over or any(map(self._may_tell, able))

    def _is_able(self, member: SwarmMember) -> bool:
        """Whether it may have the answer, now or later."""
        return member not in self._without and (self._waits or self._knows(member))

    def _may_tell(self, member: SwarmMember) -> bool:
        return self._knows(member) and not member.rests and not member.failed.done()

    def _look_at(self, member: SwarmMember, task: asyncio.Task[_Answer | None]) -> _Answer | None:
        """What a peer answered, if that is of use."""
        try:
            answer = task.result()
            if answer is None:
                self._without.add(member)
            return answer
        except PeerBusyError as error:
            member.is_busy(error, self._rng)
        except (PeerError, CodecError) as error:
            member.fail(error)
        return None
