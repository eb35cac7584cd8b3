"""Hands the owner's word on when nodes meet: asks who has a newer one, gives ours, leaves alone who gives less.

protocol.md "The v1 exchange". What is given is judged by whoever keeps the word, and by nobody here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from pypatcher.addresses import Address, format_address, network_of
from pypatcher.artifact.manifest import MANIFEST_LIMIT, Manifest
from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.bounded import note
from pypatcher.discovery.word import Heard, WordKeeper
from pypatcher.errors import CodecError, PeerError
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.transfer.stall import answer_time
from pypatcher.transfer.v1.messages import Hello, Kind
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport import CloseCode
from pypatcher.transport.stream import Stream

__all__ = ["WordExchange"]

_ASK_EVERY = 60.0
_ALONE = 3600.0
_READ = 4096


class WordExchange:
    """One node's part in it.

    Args:
        word: who keeps it.
        clock: monotonic seconds.
    """

    def __init__(self, word: WordKeeper, clock: Callable[[], float]) -> None:
        self._word = word
        self._clock = clock
        self._asked = WindowLimiter()
        self._alone: OrderedDict[Hashable, float] = OrderedDict()
        self._given: WeakKeyDictionary[SessionV1, Manifest] = WeakKeyDictionary()

    def say(self) -> tuple[int | None, bytes, int]:
        """What HELLO says of the word that is known here: its seq, the digest of its value, the mask of positions."""
        known = self._word.current
        return (None, b"", 0) if known is None else (known.seq, known.digest, known.mask)

    async def answer(self, session: SessionV1, payload: bytes, stream: Stream) -> None:
        """MANIFEST: the newest word, once on a connection: it is in no limit of uploads."""
        if payload:
            raise CodecError("a request for the manifest that says more")
        known = self._word.current
        if known is None:
            await stream.write(encode_unsigned(CloseCode.UNAVAILABLE))
        elif self._given.get(session) == known:
            await stream.write(encode_unsigned(CloseCode.BUSY))
        else:
            self._given[session] = known
            await stream.write(encode_unsigned(CloseCode.DONE) + known.encode())

    async def attend(self, session: SessionV1) -> None:
        """Ask a peer for its word, if it is newer than ours or has signatures that are lacking here.

        Raises:
            PeerError: it gives less than it said to have.
        """
        hello, address = session.hello, session.connection.peer_address
        if hello is None or not self._lacks(hello) or self._is_alone(hello, address):
            return
        limit = Limit(format_address(address), 1, _ASK_EVERY)
        if not self._asked.allows([limit], self._clock()):
            return
        try:
            heard = await self._word.hear(await _ask(session), address)
            if heard is Heard.FORGED or (heard is not Heard.OLDER and self._lacks(hello)):
                raise PeerError("the peer gave another word of the owner than it said to have")
            if heard is Heard.OLDER and hello.seq is not None and hello.seq > self._word.seq:
                raise PeerError("the peer gave an older word of the owner than it said to have")
        except PeerError:
            # That a connection ended is nobody's fault: there may be another one with this peer.
            if not session.connection.is_closed:
                self._leave_alone(hello, address)
            raise
        # Who gave what it said to have may be asked again at once, when the owner says something new.
        if heard is Heard.OLDER:
            self._asked.count([limit], self._clock())

    def lacks(self, session: SessionV1) -> bool:
        """Whether that peer knows a word which it has not given yet: nothing else is taken of it until then."""
        return session.hello is not None and self._lacks(session.hello)

    def _lacks(self, hello: Hello) -> bool:
        """Whether that peer has something of the owner's that is not here."""
        if hello.seq is None:
            return False
        known = self._word.current
        if known is None or hello.seq != known.seq:
            return hello.seq > self._word.seq or (known is None and hello.seq == self._word.seq)
        return hello.digest != known.digest or bool(hello.mask & ~known.mask)

    def _leave_alone(self, hello: Hello, address: Address) -> None:
        for key in (format_address(address), (network_of(address), hello.seq)):
            note(self._alone, key, self._clock() + _ALONE)

    def _is_alone(self, hello: Hello, address: Address) -> bool:
        until = max(self._alone.get(key, 0.0) for key in (format_address(address), (network_of(address), hello.seq)))
        return self._clock() < until


async def _ask(session: SessionV1) -> bytes:
    """The word that a peer knows, as it sends it.

    Raises:
        PeerError: it sends none, or more than any word is.
    """
    async with session.request(Kind.MANIFEST) as stream, answer_time():
        data = b""
        while part := await stream.read(_READ):
            data += part
            if len(data) > MANIFEST_LIMIT:
                raise PeerError("a manifest that is longer than any")
    return data
