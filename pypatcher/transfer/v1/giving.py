"""What a node gives by v1: parts of a release that it holds whole (RANGES), and nodes of its chunk tree (TREE).

protocol.md "The v1 exchange". The upload limits are those of every exchange: a connection takes one place for all that
it asks of one release; what deflating spares counts in the pace alone. Not here: which releases are held (``shelf``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from pypatcher.addresses import network_of
from pypatcher.artifact import PatchInfo, chunks
from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.artifact.tree import Tree, build_tree
from pypatcher.established.range_set import Fragments, TooManyFragmentsError
from pypatcher.events import Emit, ReleaseServed
from pypatcher.install.local_release import LocalRelease
from pypatcher.tasks import in_thread
from pypatcher.transfer.giving import CHUNK, OpenRelease, give, wait_delivered
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StalledError, StallWatch
from pypatcher.transfer.upload_limits import Upload
from pypatcher.transfer.v1.answers import ABSENT, Piece, encode_nodes, encode_piece
from pypatcher.transfer.v1.messages import Flags, RangesRequest, TreeRequest, check_ranges
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport import CloseCode
from pypatcher.transport.stream import Stream

__all__ = ["Giver"]

_log = logging.getLogger("pypatcher")
_HERE = encode_unsigned(CloseCode.DONE)
_PIECES = 512
_PLAIN_LIMIT = 16 << 20


@dataclass(slots=True)
class _Account:
    """What one connection takes of one release.

    Attributes:
        upload: its place.
        sent: bytes that count.
        open: requests under way.
        watch: sees the taker stall; one for all its requests, for it takes what is asked later when its turn comes.
        given: which bytes of the file were acknowledged.
        is_said: it was said that the peer has all of it.
    """

    info: PatchInfo
    upload: Upload
    started: float
    watch: StallWatch
    sent: int = 0
    open: int = 0
    given: Fragments = field(default_factory=lambda: Fragments(_PIECES))
    is_said: bool = False

    @contextlib.contextmanager
    def giving(self) -> Iterator[StallWatch]:
        """While one more answer is under way; all of them move or stall together, for the peer reads them in turn."""
        if not self.open:
            self.watch = _watch()
        self.open += 1
        try:
            yield self.watch
        finally:
            self.open -= 1


class Giver:
    """One node's.

    Args:
        emit: told of who has all of a release from us.
        began: told when a connection's first upload has its place.
    """

    def __init__(self, shelf: Shelf, emit: Emit, began: Callable[[SessionV1], None]) -> None:
        self._shelf = shelf
        self._emit = emit
        self._began = began
        self._accounts: dict[SessionV1, _Account] = {}
        self._trees: dict[bytes, asyncio.Task[Tree]] = {}

    async def answer_ranges(self, session: SessionV1, payload: bytes, stream: Stream) -> None:
        """RANGES: bytes of a release, from disk."""
        asked = RangesRequest.decode(payload)
        held = self._shelf.find(asked.release)
        if held is None or asked.flags & Flags.OPENED:
            await stream.write(encode_unsigned(CloseCode.UNAVAILABLE))
            return
        check_ranges(asked.ranges, held.info.file_size)
        account = self._account(session, held.info)
        if account is None:
            await stream.write(encode_unsigned(CloseCode.BUSY))
            return
        sent = 0
        try:
            with account.giving() as watch, OpenRelease(held) as file:
                parts = _Parts(file, stream, account.upload, watch, zlib_welcome=bool(asked.flags & Flags.ZLIB))
                await stream.write(_HERE)
                for offset, size in asked.ranges:
                    await parts.give(offset, size)
                await stream.finish()
                await wait_delivered(stream, watch)
            sent = sum(size for _, size in asked.ranges)
        except StalledError:
            session.connection.close(CloseCode.STALLED)
            raise
        finally:
            account.sent += sent or stream.sent
        with contextlib.suppress(TooManyFragmentsError):
            for offset, size in asked.ranges:
                account.given.add(offset, offset + size)
        if len(account.given) == 1 and account.given[0] == range(held.info.file_size):
            self._say_served(session, account)

    async def answer_tree(self, session: SessionV1, payload: bytes, stream: Stream) -> None:
        """TREE: nodes of the tree of a release."""
        asked = TreeRequest.decode(payload)
        held = self._shelf.find(asked.release)
        account = None if held is None else self._account(session, held.info)
        if held is None or account is None:
            await stream.write(encode_unsigned(CloseCode.UNAVAILABLE if held is None else CloseCode.BUSY))
            return
        found = [ABSENT] * (len(asked.nodes) or 1)
        # Without the compiled cuts a stranger's question would cost a small device minutes.
        if chunks.COMPILED or held.info.file_size <= _PLAIN_LIMIT:
            tree = await self._tree(held)
            if tree.parameters.number == asked.parameters:
                found = [tree.nodes.get(each, ABSENT) for each in asked.nodes or (tree.root,)]
        data = encode_nodes(found)
        await stream.write(_HERE)
        with account.giving() as watch:
            await give(stream, data, account.upload, watch)
        account.sent += len(data)

    def attend(self, session: SessionV1) -> None:
        """The peer said what it holds: whatever we gave of that was all that it lacked."""
        account = self._accounts.get(session)
        if account is not None and account.sent and session.hello and account.info in session.hello.held:
            self._say_served(session, account)

    def end(self, session: SessionV1) -> None:
        """The connection is over: its place is free; once is enough."""
        account = self._accounts.pop(session, None)
        if account is not None:
            account.upload.settle(account.sent)
            account.upload.end()

    def _account(self, session: SessionV1, info: PatchInfo) -> _Account | None:
        """The connection's place for that release; None while there is none."""
        account = self._accounts.get(session)
        if account is not None and account.info == info:
            return account
        if account is not None and account.open:
            return None
        self.end(session)
        drop = partial(session.connection.close, CloseCode.STALLED)
        upload = self._shelf.limiter.admit(session.connection.peer_address, info.file_size, drop)
        if upload is None:
            return None
        # From here on it is one of those that the upload limits bound.
        session.connection.keep_place()
        account = self._accounts[session] = _Account(info, upload, time.monotonic(), _watch())
        self._began(session)
        return account

    def _say_served(self, session: SessionV1, account: _Account) -> None:
        if not account.is_said:
            account.is_said = True
            network, seconds = network_of(session.connection.peer_address), time.monotonic() - account.started
            self._emit(ReleaseServed(str(account.info.version), network, account.sent, round(seconds, 3)))

    async def _tree(self, held: LocalRelease) -> Tree:
        """The tree of what is held; built once.

        Raises:
            PatcherError, OSError: the file cannot be read, or was changed.
        """
        name = held.info.release_id
        if name not in self._trees:
            for gone in set(self._trees) - {info.release_id for info in self._shelf.held}:
                del self._trees[gone]
            self._trees[name] = asyncio.create_task(in_thread(partial(_build, held)))
        building = self._trees[name]
        try:
            return await asyncio.shield(building)
        except BaseException:
            # Others may have waited for it as well, or have built another one since.
            if building.done() and self._trees.get(name) is building:
                del self._trees[name]
            raise


@dataclass(frozen=True, slots=True)
class _Parts:
    """Writes one range of a file after another."""

    file: OpenRelease
    stream: Stream
    upload: Upload
    watch: StallWatch
    zlib_welcome: bool

    async def give(self, offset: int, size: int) -> None:
        """Only a short one is deflated, so that memory stays flat; it counts as long as it is in the file."""
        if self.zlib_welcome and size <= CHUNK:
            data = await self._read(offset, size)
            packed = await asyncio.to_thread(encode_piece, data, zlib_welcome=True)
            await give(self.stream, packed, self.upload, self.watch)
            if delay := self.upload.work(max(0, len(data) - len(packed))):
                self.watch.pause(delay)
                await asyncio.sleep(delay)
            return
        await self.stream.write(encode_unsigned(Piece.PLAIN) + encode_unsigned(size))
        for start in range(offset, offset + size, CHUNK):
            data = await self._read(start, min(CHUNK, offset + size - start))
            await give(self.stream, data, self.upload, self.watch)

    async def _read(self, offset: int, size: int) -> bytes:
        """All of them: a read may end early."""
        parts: list[bytes] = []
        while size:
            parts.append(await self.file.read(size, offset))
            offset, size = offset + len(parts[-1]), size - len(parts[-1])
        return b"".join(parts)


def _watch() -> StallWatch:
    return StallWatch(DEFAULT_STALL, time.monotonic)


def _build(held: LocalRelease) -> Tree:
    descriptor = os.open(held.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return build_tree(descriptor, held.info.file_size)
    finally:
        os.close(descriptor)
