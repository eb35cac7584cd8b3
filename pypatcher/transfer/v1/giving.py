"""What a node gives by v1: parts of a release that it holds or is fetching (RANGES), nodes of its chunk tree (TREE).

protocol.md "The v1 exchange". The upload limits are those of every exchange: a connection takes one place for all that
it asks of one release; what deflating spares counts in the pace alone. Not here: which releases are held (``shelf``).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from pypatcher.addresses import network_of
from pypatcher.artifact import PatchInfo, chunks
from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.artifact.tree import Tree
from pypatcher.budgets.upload import Upload
from pypatcher.established.range_set import Fragments, TooManyFragmentsError
from pypatcher.events import Emit, ReleaseServed
from pypatcher.install.local_release import LocalRelease
from pypatcher.transfer.giving import OpenRelease, give, wait_delivered
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StalledError, StallWatch
from pypatcher.transfer.v1.answers import ABSENT, encode_nodes
from pypatcher.transfer.v1.given_parts import GivenParts
from pypatcher.transfer.v1.held_trees import HeldOpened, HeldTrees, OpenContent
from pypatcher.transfer.v1.messages import NO_PARTS, Flags, RangesRequest, TreeRequest, check_ranges
from pypatcher.transfer.v1.part_held import OpenPart, PartHeld
from pypatcher.transfer.v1.parts_writer import PartsWriter
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport import CloseCode
from pypatcher.transport.stream import Stream
from pypatcher.waiting import News

__all__ = ["Giver"]

_log = logging.getLogger("pypatcher")
_HERE = encode_unsigned(CloseCode.DONE)
_PIECES = 512
_TREE_PARTS, _TREE_LEAST = 32, 1 << 16
"""What the tree may have beside the file, in parts of it and at the least."""


@dataclass(slots=True)
class _Account:
    """What one connection takes of one release.

    Attributes:
        upload: its place; None since another taker got it while nothing was asked for.
        asked: bytes of all its requests; for more than the release and its tree have it needs another place.
        sent: bytes of the release that it has by that.
        left: bytes that left; ``settled`` of them counted for places that it had before.
        open: requests under way; ``owed`` bytes of the release at most are still to be sent for them.
        watch: sees the taker stall; one for all its requests, for it takes what is asked later when its turn comes.
        given: which bytes of the file were acknowledged.
        is_said: it was said that the peer has all of it.
        had_turn: its place is another's once its open requests are answered.
    """

    info: PatchInfo
    upload: Upload | None
    started: float
    watch: StallWatch
    asked: int = 0
    sent: int = 0
    left: int = 0
    settled: int = 0
    open: int = 0
    owed: int = 0
    given: Fragments = field(default_factory=lambda: Fragments(_PIECES))
    is_said: bool = False
    had_turn: bool = False

    def has_left(self, size: int) -> bool:
        """Whether so many bytes more are what one place is for."""
        whole = self.info.file_size
        return self.asked + size <= whole + whole // _TREE_PARTS + _TREE_LEAST

    @contextlib.contextmanager
    def giving(self, upload: Upload, stream: Stream, size: int) -> Iterator[StallWatch]:
        """While one more answer is under way; all of them move or stall together, for the peer reads them in turn."""
        if not self.open:
            self.watch = _watch()
        self.open += 1
        self.owed += size
        upload.rest(rests=False)
        try:
            with upload.answering(stream):
                yield self.watch
        finally:
            self.open -= 1
            self.owed -= size
            upload.rest(rests=not self.open)

    def ended(self, sent: int, left: int) -> None:
        """An answer is over: so many bytes of the release, of which so many left."""
        self.sent += sent
        self.left += left
        if self.had_turn and not self.open and (upload := self.upload) is not None:
            self.settle()
            upload.end()

    def settle(self) -> None:
        """Its place is another's, or free."""
        if self.upload is not None:
            self.upload.settle(self.left - self.settled)
            self.settled, self.upload, self.had_turn = self.left, None, False


class Giver:
    """One node's.

    Args:
        emit: told of who has all of a release from us.
        began: told when a connection's first upload has its place.
        part_of: what is here of the release of that id, while it is fetched.
        opened_root: of its opened content's tree, as the owner states it.

    Attributes:
        news: told when other parts of what is held are given.
    """

    def __init__(
        self,
        shelf: Shelf,
        emit: Emit,
        began: Callable[[SessionV1], None],
        part_of: Callable[[bytes], PartHeld | None] = lambda _: None,
        opened_root: Callable[[PatchInfo], bytes | None] = lambda _: None,
    ) -> None:
        self._shelf = shelf
        self._part_of = part_of
        self._emit = emit
        self._began = began
        self._accounts: dict[SessionV1, _Account] = {}
        self._trees = HeldTrees(shelf, opened_root)
        self._given: dict[bytes, GivenParts] = {}
        self.news = News()

    def given(self, info: PatchInfo) -> bytes:
        """A bitmap of the parts of what is held that others took lately, as HELLO tells it."""
        given = self._given.get(info.release_id)
        return NO_PARTS if given is None else given.bitmap()

    async def answer_ranges(self, session: SessionV1, payload: bytes, stream: Stream) -> None:
        """RANGES: bytes of a release, from disk."""
        asked = RangesRequest.decode(payload)
        held = self._shelf.find(asked.release) or self._part_of(asked.release)
        opened = None
        if asked.flags & Flags.OPENED:
            opened = self._trees.known_opened(held) if isinstance(held, LocalRelease) else None
            held = None if opened is None else held
        if held is None:
            await stream.write(encode_unsigned(CloseCode.UNAVAILABLE))
            return
        check_ranges(asked.ranges, held.info.file_size if opened is None else opened.size)
        wanted = sum(size for _, size in asked.ranges)
        account, upload = self._account(session, held.info, wanted)
        if account is None or upload is None:
            await stream.write(encode_unsigned(CloseCode.BUSY))
            return
        if isinstance(held, LocalRelease) and opened is None:
            self._note_given(held.info, asked.ranges)
        gave = list[tuple[int, int]]()
        try:
            with (
                session.moving(),
                account.giving(upload, stream, wanted) as watch,
                _open(held, opened) as file,
            ):
                parts = PartsWriter(file, stream, upload, watch, zlib_welcome=bool(asked.flags & Flags.ZLIB))
                await stream.write(_HERE)
                here = await parts.give(asked.ranges)
                await stream.finish()
                await wait_delivered(stream, watch)
            gave = here
        except StalledError:
            session.connection.close(CloseCode.STALLED)
            raise
        finally:
            # What deflating spared did not leave, and pays for nothing that was not taken.
            account.ended(sum(size for _, size in gave) or stream.sent, stream.sent)
            session.moved(stream.sent)
        with contextlib.suppress(TooManyFragmentsError):
            for offset, size in gave if opened is None else []:
                account.given.add(offset, offset + size)
        if len(account.given) == 1 and account.given[0] == range(held.info.file_size):
            self._say_served(session, account)

    async def answer_tree(self, session: SessionV1, payload: bytes, stream: Stream) -> None:
        """TREE: nodes of the tree of a release."""
        asked = TreeRequest.decode(payload)
        held = self._shelf.find(asked.release) or self._part_of(asked.release)
        account, upload = (None, None) if held is None else self._account(session, held.info, 0)
        if held is None or (account is None and not isinstance(held, PartHeld)):
            await stream.write(encode_unsigned(CloseCode.UNAVAILABLE if held is None else CloseCode.BUSY))
            return
        found = [ABSENT] * (len(asked.nodes) or 1)
        tree: PartHeld | Tree | HeldOpened | None = None
        if asked.parameters == chunks.parameters_for(held.info.file_size).number:
            tree = held if isinstance(held, PartHeld) else await self._trees.plain(held)
        elif asked.parameters >= chunks.OPENED and isinstance(held, LocalRelease):
            tree = await self._trees.opened(held, asked.parameters)
        if tree is not None:
            found = [tree.nodes.get(each, ABSENT) for each in asked.nodes or (tree.root,)]
        data = encode_nodes(found)
        account, upload = self._account(session, held.info, len(data))
        if upload is None and isinstance(held, PartHeld):
            account, upload = self._brief(session, held.info)
        if account is None or upload is None:
            await stream.write(encode_unsigned(CloseCode.BUSY))
            return
        try:
            with session.moving(), account.giving(upload, stream, len(data)) as watch:
                await stream.write(_HERE)
                await give(stream, data, upload, watch)
                await stream.finish()
                await wait_delivered(stream, watch)
        except StalledError:
            session.connection.close(CloseCode.STALLED)
            raise
        finally:
            account.ended(stream.sent, stream.sent)
            session.moved(stream.sent)

    def attend(self, session: SessionV1) -> None:
        """The peer said what it holds: whatever we gave of that was all that it lacked."""
        account = self._accounts.get(session)
        if account is not None and account.sent and session.hello and account.info in session.hello.held:
            self._say_served(session, account)

    def end(self, session: SessionV1) -> None:
        """The connection is over: its place is free; once is enough."""
        account = self._accounts.pop(session, None)
        if account is not None and (upload := account.upload) is not None:
            account.settle()
            upload.end()

    def _account(self, session: SessionV1, info: PatchInfo, size: int) -> tuple[_Account | None, Upload | None]:
        """The connection's account and its place for so many bytes more of that release; no place while there is none.

        Who takes it a second time is asked in again, as if on another connection: the day's bytes are looked at then.
        """
        account = self._accounts.get(session)
        if account is not None and account.info == info and account.has_left(size):
            if account.had_turn:
                return account, None
            if account.upload is None:
                account.upload = self._admit(session, info)
            account.asked += size if account.upload is not None else 0
            return account, account.upload
        if account is not None and account.open:
            return None, None
        self.end(session)
        upload = self._admit(session, info)
        if upload is None:
            return None, None
        # From here on it is one of those that the upload limits bound.
        session.connection.keep_place()
        account = self._accounts[session] = _Account(info, upload, time.monotonic(), _watch(), size)
        self._began(session)
        return account, upload

    def _brief(self, session: SessionV1, info: PatchInfo) -> tuple[_Account | None, Upload | None]:
        """For one answer, though all places are taken: who fetches itself has told the tree on sooner than any part."""
        drop = partial(session.connection.close, CloseCode.STALLED)
        upload = self._shelf.limiter.admit(session.connection.peer_address, info.file_size, drop, is_brief=True)
        if upload is None:
            return None, None
        return _Account(info, upload, time.monotonic(), _watch(), had_turn=True), upload

    def _admit(self, session: SessionV1, info: PatchInfo) -> Upload | None:
        def takes_turns() -> bool:
            # Who fetches in parts, which it says, takes them from others meanwhile.
            return session.hello is not None and session.hello.fetching == info

        drop = partial(self._lose, session)
        return self._shelf.limiter.admit(session.connection.peer_address, info.file_size, drop, takes_turns=takes_turns)

    def _lose(self, session: SessionV1) -> None:
        """Another taker gets its place: who was too slow is told so; who asked for nothing is asked in again, and who
        had its turn, too, when its open requests are answered."""
        account = self._accounts.get(session)
        upload = None if account is None else account.upload
        if account is not None and upload is not None and not account.open:
            account.settle()
            upload.end()
        elif account is not None and upload is not None and upload.goes_on:
            account.had_turn = True
            upload.left = min(upload.left, account.owed)
        else:
            session.connection.close(CloseCode.STALLED)

    def _note_given(self, info: PatchInfo, ranges: Sequence[tuple[int, int]]) -> None:
        given = self._given.get(info.release_id)
        if given is None:
            for gone in set(self._given) - {each.release_id for each in self._shelf.held}:
                del self._given[gone]
            given = self._given[info.release_id] = GivenParts(info.file_size)
        given.note(ranges, time.monotonic())
        self.news.tell()

    def _say_served(self, session: SessionV1, account: _Account) -> None:
        address = session.connection.peer_address
        if not account.is_said and self._shelf.is_news(account.info, address):
            account.is_said = True
            network, seconds = network_of(address), time.monotonic() - account.started
            self._emit(ReleaseServed(str(account.info.version), network, account.sent, round(seconds, 3)))


def _open(held: LocalRelease | PartHeld, opened: HeldOpened | None) -> OpenRelease | OpenPart | OpenContent:
    if isinstance(held, PartHeld):
        return held.open()
    return OpenRelease(held) if opened is None else OpenContent(OpenRelease(held), opened)


def _watch() -> StallWatch:
    return StallWatch(DEFAULT_STALL, time.monotonic)
