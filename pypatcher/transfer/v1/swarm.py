"""Fetches one release from any number of peers at once, by its chunk tree.

protocol.md "Only what is new" and "From several peers". A peer that fails is left, what it sent that is right is kept,
and the download goes on with the others. Not here: which bytes are asked of whom (``picker``), who is asked at all and
what a failure costs (the updater), and whether the whole is the release (``artifact``).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from pypatcher.addresses import is_lan
from pypatcher.artifact.new_content import is_worth_opening
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.tree import Walk
from pypatcher.errors import CodecError, PeerBusyError, PeerError, PeerLacksError
from pypatcher.tasks import in_thread
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.stall import StallRule
from pypatcher.transfer.v1.asking import Asking
from pypatcher.transfer.v1.filling import Filling
from pypatcher.transfer.v1.kept_tree import keep_nodes, kept_nodes
from pypatcher.transfer.v1.member import AT_ONCE, SwarmMember
from pypatcher.transfer.v1.members import Members
from pypatcher.transfer.v1.messages import NO_PARTS
from pypatcher.transfer.v1.old_files import Files, OldFiles
from pypatcher.transfer.v1.opening import Opening
from pypatcher.transfer.v1.part_held import PartHeld
from pypatcher.transfer.v1.picker import Picker
from pypatcher.transfer.v1.plan import Plan, part_rank
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transfer.v1.walking import Roots, Walking, WrongTreeError
from pypatcher.waiting import News, wait_at_most, wait_to_the_end

__all__ = ["SwarmDownload"]

_LOOK_SECONDS = 5.0
"""How long what an earlier download left is looked at alone: a peer ends an idle connection."""
_LOOK_AGAIN = 1.0
_IDLE = 3.0
"""Seconds after which a peer that has nothing for us makes place for another."""
_NEIGHBOURS_COME, _TURN, _NEIGHBOUR_OPENS = 2.0, 2.0, 5.0
"""Seconds in which neighbours say that they fetch the same; for each that comes before us; and for all who bring it in:
in all less than a connection may be idle."""


class SwarmDownload:
    """One release, fetched once.

    Args:
        info: the owner signed it; the caller checked that.
        roots: of its tree, and of its opened content's, as the owner states them.
        node_id: ours.

    Attributes:
        members: from whom it is fetched.
        news: told when there is more of it here.
    """

    def __init__(
        self, info: PatchInfo, roots: Roots, sink: Sink, stall: StallRule, *, node_id: bytes, rng: random.Random
    ) -> None:
        self.info = info
        self.members = Members()
        self.news = News()
        self._roots, self._sink, self._stall = roots, sink, stall
        self._node_id, self._rng = node_id, rng
        self._clock = asyncio.get_running_loop().time
        self._heard: dict[SessionV1, None] = {}
        self._filling: Filling | None = None
        self._whole: PartHeld | None = None
        self._is_over = self._opens = False

    @property
    def part(self) -> PartHeld | None:
        """What is here of it, for others to take; None while that is nothing."""
        return None if self._filling is None else self._filling.held

    @property
    def bitmap(self) -> bytes:
        """The parts of it that are here, as HELLO tells them."""
        return NO_PARTS if self.part is None else self.part.plan.bitmap()

    def take_whole(self) -> PartHeld | None:
        """All of the release, once it is here, for others to take; the caller closes it."""
        whole, self._whole = self._whole, None
        return whole

    async def run(self, session: SessionV1, old_files: OldFiles, drop: Callable[[], None]) -> None:
        """Fill the sink's ``parts`` with all of the release, from that peer and those that ``take_from`` brings.

        Args:
            old_files: what is here.
            drop: to be called if every chunk is right, and the whole is another file.

        Raises:
            NoTreeError: fetch the file as a whole; nothing came.
            WrongTreeError: likewise; nobody can make a file of that tree.
            PeerBusyError: whoever was asked serves as many as it may, and nothing came.
            NobodyLeftError: everybody failed; how was said to the sink, peer by peer.
            OSError: whatever the sink raises.
        """
        parts, first = self._sink.parts, asyncio.create_task(self.take_from(session))
        with ExitStack() as opened:
            try:
                await asyncio.sleep(0)  # it is one of us from now on
                files = opened.enter_context(parts.old_files())
                left = min(await in_thread(lambda: parts.size), self.info.file_size)
                old = await old_files.chunks(self.info, files)
                known = old.nodes | await in_thread(partial(kept_nodes, parts, self.info.file_size))
                asking = Asking(self.members, self._rng, self._may_tell)
                walk = await Walking(self.info, self._roots.tree, asking).walk(known)
                new = [node for name, node in walk.nodes.items() if name not in old.nodes]
                if walk.nodes.keys() - known.keys():
                    with contextlib.suppress(OSError):
                        await in_thread(partial(keep_nodes, parts, self.info.file_size, new))
                plan = await in_thread(partial(_plan, walk, old))
                self._sink.follows_tree(drop)
                with self._giving(walk, plan, await in_thread(parts.open_again)) as held:
                    await self._fill(held, (old, files), left, old_files)
            finally:
                self._is_over = True
                # Whatever happens meanwhile: the caller closes the file that they write to.
                await wait_to_the_end(asyncio.ensure_future(self._end(first)))

    async def _end(self, first: asyncio.Task[None]) -> None:
        await self.members.end()
        await asyncio.gather(first, return_exceptions=True)

    async def take_from(self, session: SessionV1) -> None:
        """Ask a peer for what is missing, beside others, until all is there or it fails; the sink is told how it went.

        It ends soon when the whole does.

        Raises:
            PeerBusyError: it is asked already, by whichever address, or failed before.
        """
        if self._is_over:
            return
        if not self.members.takes(session):
            raise PeerBusyError("it is asked already, or no more")
        # Who dialed us and gives has its place as surely as who takes.
        session.connection.keep_place()
        member = SwarmMember(session, self._stall)
        self.members.add(member)
        self.hear(session)
        if session not in self._heard:
            member.fail(PeerError("the peer does not have it, or gives nothing just now"))
        workers = [asyncio.create_task(self._work(member)) for _ in range(AT_ONCE)]
        try:
            await asyncio.wait([*workers, member.failed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Whatever happens meanwhile: who waits for its end would wait for ever.
            await wait_to_the_end(asyncio.ensure_future(self._leave(member, workers)))

    async def _leave(self, member: SwarmMember, workers: Sequence[asyncio.Task[None]]) -> None:
        for task in workers:
            task.cancel()
        ending = asyncio.gather(*workers, return_exceptions=True)
        try:
            await wait_to_the_end(ending)
        finally:
            member.fail(None)
            # Its own failure says more than that of what ended with it.
            errors = [each for each in (member.failed.exception(), *ending.result()) if isinstance(each, Exception)]
            error = self.members.see_off(member, errors[0] if errors else None)
            if error is not None:
                self._forget(member.session)
            address = member.session.connection.peer_address
            self._sink.peer_ended(address, member.came, error, member.came - member.good)

    def hear(self, session: SessionV1) -> None:
        """A peer said what it has, whether it is asked or not; one that is gone has nothing."""
        hello, connection = session.hello, session.connection
        is_of_use = hello is not None and hello.gives and self.info in (*hello.held, hello.fetching)
        if hello is None or not is_of_use or connection.is_closed or self.members.has_failed(session):
            self._forget(session)
            return
        self._heard[session] = None
        if self._filling is not None:
            is_whole = self.info in hello.held
            given = dict(zip(hello.held, hello.given, strict=False)).get(self.info, NO_PARTS)
            self._filling.picker.hear(
                connection.peer_id,
                self._clock(),
                is_near=is_lan(connection.peer_address),
                parts=None if is_whole else hello.parts,
                is_fetching=not is_whole,
                given=given,
            )
        if self.members.has(session):
            self.members.news.tell()

    def _forget(self, session: SessionV1) -> None:
        peer = session.connection.peer_id
        self._heard.pop(session, None)
        # There may be another connection with it.
        if self._filling is not None and all(each.connection.peer_id != peer for each in self._heard):
            self._filling.picker.leave(peer)

    @contextmanager
    def _giving(self, walk: Walk, plan: Plan, descriptor: int) -> Iterator[PartHeld]:
        """During the block others may take what is here; whoever called gives all of it on, once it is whole."""
        held = PartHeld(self.info, self._roots.tree, walk.nodes, plan, descriptor)
        try:
            yield held
            self._whole = held
        finally:
            self._filling = None
            if self._whole is None:
                held.close()

    async def _fill(self, held: PartHeld, old: tuple[OldChunks, Files], left: int, old_files: OldFiles) -> None:
        picker = Picker(held.plan, self._node_id, self._rng, self._clock())
        filling = Filling(held, picker, self._sink.parts, old, lambda: self._say(held.plan))
        looking = asyncio.create_task(filling.keep(left))
        try:
            # Peers wait no longer; the rest is looked at beside what is fetched, and from then on not asked for.
            await asyncio.wait([looking], timeout=_LOOK_SECONDS)
            self._filling = filling
            for session in list(self._heard):
                self.hear(session)
            self._opens = self._roots.opened is not None and is_worth_opening(held.plan.missing)
            if self._opens:
                await self._open(filling, old[1], old_files)
                self._opens = False
                self.members.news.tell()
            while not filling.has_all:
                await self.members.until(lambda: not held.plan.missing)
                await filling.copy()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        self._say(held.plan)

    async def _open(self, filling: Filling, files: Files, old_files: OldFiles) -> None:
        """Make of opened content what is worth it, before the rest is asked for."""
        # What old files give is told to neighbours: who has some of it is ready to open the rest.
        copying = asyncio.create_task(filling.copy())
        try:
            may_open = await self._may_open(copying)
            await copying
        finally:
            await wait_to_the_end(asyncio.gather(copying, return_exceptions=True))
        stated = self._roots.opened
        old = None if stated is None or not may_open else await old_files.opened(self.info, files, stated[0])
        if stated is not None and old is not None:
            asking = Asking(self.members, self._rng, self._may_open_it, waits=False)
            await Opening(stated, filling, asking, old, files).run()

    async def _may_open(self, copying: asyncio.Task[None]) -> bool:
        """Whether that falls to us: of those in a LAN that fetch the same one does it, and gives the others of it."""
        if any(map(is_near, filter(self._holds, self.members.there))):
            return True
        await asyncio.wait([copying])
        # Neighbours that begin just now say so in a moment.
        await asyncio.sleep(_NEIGHBOURS_COME)
        own, began = part_rank(self._node_id, 0), self._clock()
        while self._clock() - began < _NEIGHBOUR_OPENS:
            near = {each.connection.peer_id: _bits(each.hello.parts) for each in self._near() if each.hello}
            if any(parts & ~_bits(self.bitmap) for parts in near.values()):
                break
            # Who has nothing of it is not ready; who comes before us may have lost whoever holds it.
            ahead = sum(part_rank(peer, 0) < own for peer, parts in near.items() if parts)
            if self._clock() - began >= _TURN * ahead and any(map(self._holds, self.members.there)):
                return True
            await wait_at_most(self.members.news.next, _LOOK_AGAIN / 2)
        return False

    def _near(self) -> list[SessionV1]:
        """Those in the LAN that fetch the same."""
        return [
            each
            for each in self._heard
            if each.hello is not None and each.hello.fetching == self.info and is_lan(each.connection.peer_address)
        ]

    def _holds(self, member: SwarmMember) -> bool:
        """Whether it says to have all of it."""
        hello = member.session.hello
        return hello is not None and self.info in hello.held

    def _may_tell(self, member: SwarmMember) -> bool:
        """Whether it may know the tree: who has nothing yet does not."""
        hello = member.session.hello
        return self._holds(member) or (hello is not None and hello.parts != NO_PARTS)

    def _may_open_it(self, member: SwarmMember) -> bool:
        """Whether it may give opened content: it has all, and is near if any of those is."""
        return self._holds(member) and (
            is_near(member) or not any(map(is_near, filter(self._holds, self.members.there)))
        )

    async def _work(self, member: SwarmMember) -> None:
        """Ask one request after the other, until nothing is left to ask."""
        while not self._is_over:
            news, now, filling = self.members.news.next, self._clock(), self._filling
            may_ask = filling is not None and not self._opens
            asked = None
            if filling is not None and may_ask and not member.rests:
                asked = filling.picker.next(member.session.connection.peer_id, now)
            if filling is None or asked is None:
                is_idle = may_ask and now - member.used > _IDLE and not self._awaits(member)
                if is_idle or member.session.connection.is_closed:
                    return
                await wait_at_most(news, max(0.01, min(_LOOK_AGAIN, member.rests or _LOOK_AGAIN)))
                continue
            member.used = now
            try:
                await filling.take(member, asked, len(self.members.there))
            except PeerBusyError as error:
                member.is_busy(error, self._rng)
            except PeerLacksError as error:
                # It said that it has parts, and is perhaps about to have it whole.
                raise (PeerBusyError(str(error)) if self._fetches(member) else error) from None
            self.members.news.tell()

    def _awaits(self, member: SwarmMember) -> bool:
        """Whether it is near and fetches the same: it will have what we do not bring in."""
        return is_lan(member.session.connection.peer_address) and self._fetches(member)

    def _fetches(self, member: SwarmMember) -> bool:
        """Whether it fetches the same."""
        hello = member.session.hello
        return hello is not None and hello.fetching == self.info

    def _say(self, plan: Plan) -> None:
        """What only has to be copied counts as here."""
        self.news.tell()
        self._sink.received(self.info.file_size - plan.missing, self.info.file_size, self.members.came)


def is_near(member: SwarmMember) -> bool:
    """Whether it is in our LAN."""
    return is_lan(member.session.connection.peer_address)


def _bits(parts: bytes) -> int:
    return int.from_bytes(parts, "big")


def _plan(walk: Walk, old: OldChunks) -> Plan:
    """
    Raises:
        WrongTreeError: no cut leaves such chunks.
    """
    try:
        return Plan(*walk.finish(), old)
    except CodecError as error:
        raise WrongTreeError(str(error)) from None
