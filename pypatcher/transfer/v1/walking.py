"""Learns a release's chunk tree from the peers that have it: node by node, none of which is believed.

protocol.md "Only what is new". Not here: what a tree is (``artifact.tree``), and who the peers are (``members``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import partial

from pypatcher.artifact.chunks import parameters_for
from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.tree import Walk
from pypatcher.errors import CodecError, PeerBusyError, PeerError
from pypatcher.transfer.v1.answers import ABSENT
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.members import Members
from pypatcher.transfer.v1.messages import NO_PARTS, NODES_LIMIT

__all__ = ["NoTreeError", "Walking", "WrongTreeError"]

_TREE_PATIENCE = 2.0
"""Seconds after which another peer is asked for the same part of the tree."""
_OTHERS_COME = 5.0
"""Seconds in which another that is dialed may turn out to have the tree; who is asked nothing ends its connection."""


class NoTreeError(Exception):
    """Nobody who is asked can tell the tree; nobody is to blame."""


class WrongTreeError(Exception):
    """What is below the root that the owner signed is no tree of such a file."""


class Walking:
    """One release's.

    Args:
        root: its id, as the owner states it.
        members: who is asked.
    """

    def __init__(self, info: PatchInfo, root: bytes, members: Members, rng: random.Random) -> None:
        self._info, self._root, self._members, self._rng = info, root, members, rng
        self._clock = asyncio.get_running_loop().time

    async def walk(self, known: Mapping[bytes, bytes]) -> Walk:
        """Every node of the tree; those that are known here are not asked for.

        Raises:
            NoTreeError: nobody has it.
            WrongTreeError: it is none.
            PeerBusyError, NobodyLeftError: nobody is left to ask.
        """
        if self._root not in known:
            known = {self._root: (await self._ask([self._root]))[0], **known}
        try:
            walk = Walk(self._root, self._info.file_size, known.get)
            while missing := walk.missing:
                for node in await self._ask(missing[:NODES_LIMIT]):
                    walk.add(node)
        except CodecError as error:
            raise WrongTreeError(str(error)) from None
        return walk

    async def _ask(self, names: Sequence[bytes]) -> list[bytes]:
        """These nodes, each the one that was asked for, from whoever has them; of a second peer if one takes its time.

        Raises:
            NoTreeError: nobody has.
        """
        asking: dict[asyncio.Task[list[bytes]], SwarmMember] = {}
        until = self._clock() + _OTHERS_COME
        try:
            while True:
                news, able = self._members.news.next, [each for each in self._members.there if each.has_tree]
                if able:
                    until = self._clock() + _OTHERS_COME
                elif self._members.there and (self._members.are_complete or self._clock() >= until):
                    raise NoTreeError("no peer has the tree")
                free = [each for each in able if self._may_tell(each) and each not in asking.values()]
                if free:
                    member = self._rng.choice([each for each in free if not each.is_late] or free)
                    parameters = parameters_for(self._info.file_size).number
                    asking[asyncio.create_task(member.nodes(self._info, parameters, names))] = member
                if not asking:
                    await self._members.until(partial(self._may_go_on, news, able, until))
                    continue
                done, _ = await asyncio.wait(asking, timeout=_TREE_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (nodes := self._look_at(asking.pop(task), task, names)) is not None:
                        for late in asking.values():
                            late.is_late = True
                        return nodes
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def _may_go_on(self, news: asyncio.Event, able: Sequence[SwarmMember], until: float) -> bool:
        """Whether something is new; who had no place for us says nothing when it has one."""
        is_over = bool(self._members.there) and self._clock() >= until
        return news.is_set() or is_over or any(map(self._may_tell, able))

    def _may_tell(self, member: SwarmMember) -> bool:
        """Whether it may be asked for a part of the tree now: who has nothing yet does not know it either."""
        hello = member.session.hello
        has_some = hello is not None and (self._info in hello.held or hello.parts != NO_PARTS)
        return has_some and not member.rests and not member.failed.done()

    def _look_at(
        self, member: SwarmMember, answer: asyncio.Task[list[bytes]], names: Sequence[bytes]
    ) -> list[bytes] | None:
        """What a peer answered, if that is of use."""
        try:
            nodes = answer.result()
            if ABSENT not in nodes:
                member.told_nodes = True
                return nodes
            if member.told_nodes or any(nodes):
                raise PeerError("the peer has a part of a tree and not all of it")
            # One that cuts no file as large as this one has none of it, and gives the file all the same.
            member.has_tree = False
        except PeerBusyError as error:
            member.is_busy(error, self._rng)
        except (PeerError, CodecError) as error:
            member.fail(error)
        return None
