"""One of the peers from which a release is fetched: what it sent, how it is asked, and when it is asked no more.

Every answer is bounded by what was asked. Not here: what is asked of whom (``picker``), and what is done with the
bytes (``swarm``, ``filling``).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.tree import node_id
from pypatcher.errors import CodecError, PeerBusyError, PeerError
from pypatcher.transfer.stall import StallRule, StallWatch
from pypatcher.transfer.taking import CHUNK, WINDOW, read_watched
from pypatcher.transfer.v1.answers import ABSENT, TREE_LIMIT, RangesAnswer, decode_nodes
from pypatcher.transfer.v1.messages import Flags, Kind, RangesRequest, TreeRequest
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport.stream import Stream

__all__ = ["AT_ONCE", "SwarmMember"]

AT_ONCE = 2
"""Requests to one peer, so that latency sets no pace."""
_SMALLEST_WINDOW = 1 << 18
_BUSY_PAUSES, _BUSY_TRIES = (0.5, 1.0, 2.0, 4.0), 8
"""Seconds before a peer that has no place just now is asked again, jittered, and how often; then it is left."""


class SwarmMember:
    """One peer that is asked.

    Attributes:
        session: the connection with it.
        watch: sees it stall.
        came: bytes of the tree and of the file that it sent.
        good: of them those that were of use.
        joined, used: when it was first and last asked for something.
        failed: done when it is to be asked no more, and why.
    """

    def __init__(self, session: SessionV1, stall: StallRule) -> None:
        self._clock = asyncio.get_running_loop().time
        self.session = session
        self._stall = stall
        self.watch = StallWatch(stall, self._clock)
        self._open = self._giving = 0
        self.came = self.good = 0
        self.joined = self.used = self._clock()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._busy = 0
        self._not_before = 0.0

    def fail(self, error: Exception | None) -> None:
        """It is asked no more."""
        if not self.failed.done():
            if error is None:
                self.failed.set_result(None)
            else:
                self.failed.set_exception(error)

    @property
    def is_giving(self) -> bool:
        """Whether an answer has begun; how slow it may be is bounded by the stall rule."""
        return self._giving > 0

    def rate(self, now: float) -> float:
        """Bytes a second that it sent."""
        return self.came / max(1.0, now - self.joined)

    @property
    def rests(self) -> float:
        """Seconds for which it is not asked, since it had no place for us."""
        return max(0.0, self._not_before - self._clock())

    def is_busy(self, error: PeerBusyError, rng: random.Random) -> None:
        """It has no place for us just now; several times in a row, and it is left."""
        if self.rests:
            return  # two requests of ours were told so
        if self._busy == _BUSY_TRIES:
            self.fail(error)
            return
        self._not_before = self._clock() + _BUSY_PAUSES[min(self._busy, len(_BUSY_PAUSES) - 1)] * rng.uniform(0.5, 1.0)
        self._busy += 1

    async def nodes(self, info: PatchInfo, parameters: int, names: Sequence[bytes]) -> list[bytes]:
        """Nodes of a release's tree, each the one that was asked for, or ``ABSENT``.

        Raises:
            PeerBusyError: it serves as many as it may.
            PeerError, CodecError: it refused, lied, stalled or went away.
        """
        data = bytearray()
        with self._asking():
            request = TreeRequest(info.release_id, parameters, tuple(names)).encode()
            async with self._answer(Kind.TREE, request, WINDOW // AT_ONCE) as stream:
                while part := await read_watched(stream, CHUNK, self.watch):
                    data += part
                    self._note(len(part))
                    if len(data) > TREE_LIMIT:
                        raise CodecError("more nodes than were asked for")
        nodes = decode_nodes(bytes(data), len(names))
        if any(node != ABSENT and node_id(node) != name for node, name in zip(nodes, names, strict=True)):
            raise PeerError("the peer sent a node of another tree")
        self.good += len(data)
        return nodes

    async def pieces(
        self, info: PatchInfo, ranges: Sequence[tuple[int, int]], share: int, flags: Flags = Flags.ZLIB
    ) -> AsyncGenerator[list[tuple[int, bytes]], None]:
        """Bytes of a release, or of its opened content, as they come; whether deflating pays is seen by who has them.

        Args:
            share: how many peers share the memory for what comes ahead.
            flags: with ``OPENED``, of its opened content.

        Raises:
            PeerBusyError: it serves as many as it may.
            PeerError, CodecError: it refused, broke the protocol, stalled or went away.
        """
        request = RangesRequest(info.release_id, flags, tuple(ranges))
        answer = RangesAnswer(request.ranges, zlib_welcome=True)
        window = max(_SMALLEST_WINDOW, WINDOW // AT_ONCE // share)
        with self._asking():
            async with self._answer(Kind.RANGES, request.encode(), window) as stream:
                self._busy = 0
                while data := await read_watched(stream, CHUNK, self.watch):
                    pieces = answer.feed(data)
                    self._note(sum(len(piece) for _, piece in pieces))
                    yield pieces

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """While one more request is under way; one that is asked nothing does not stall."""
        if not self._open:
            self.watch = StallWatch(self._stall, self._clock)
        self._open += 1
        try:
            with self.session.moving():
                yield
        finally:
            self._open -= 1

    @contextlib.asynccontextmanager
    async def _answer(self, kind: Kind, payload: bytes, window: int) -> AsyncIterator[Stream]:
        async with self.session.request(kind, payload, window=window) as stream:
            self._giving += 1
            try:
                yield stream
            finally:
                self._giving -= 1

    def _note(self, count: int) -> None:
        self.came += count
        self.session.moved(count)
