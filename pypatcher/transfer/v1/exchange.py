"""The v1 exchange of one node: one connection both ways, on which the owner's word and releases travel.

Puts sessions, words, giving and taking behind ``Exchange``. protocol.md "The v1 exchange". Not here: who is dialed to
hear what it has (``meetings``), and which release is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.chunks import OPENED, PARAMETERS, parameters_for
from pypatcher.bounded import note
from pypatcher.discovery import Namespace
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.census import Census
from pypatcher.discovery.word import WordKeeper
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.events import Emit
from pypatcher.transfer.download import Fetch
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StallRule
from pypatcher.transfer.v1.asking import NoTreeError
from pypatcher.transfer.v1.giving import Giver
from pypatcher.transfer.v1.messages import NO_PARTS, Hello, Kind
from pypatcher.transfer.v1.old_files import OldFiles
from pypatcher.transfer.v1.session import IDLE_SECONDS, Answer, Attend, SessionV1
from pypatcher.transfer.v1.swarms import Swarms
from pypatcher.transfer.v1.taking import fetch_whole
from pypatcher.transfer.v1.walking import Roots, WrongTreeError
from pypatcher.transfer.v1.words import WordExchange
from pypatcher.transport import Connection, Endpoint
from pypatcher.waiting import News

__all__ = ["ExchangeV1", "OurselvesError"]

_log = logging.getLogger("pypatcher")
_DIAL_SECONDS = 10.0


class OurselvesError(PeerError):
    """Who answered is this node itself: an address of ours was named."""


class ExchangeV1:
    """All devices of this version speak it; only ours, whose namespace has an ALPN for it.

    Args:
        census: who is known to speak it.
        word: who keeps the owner's word; None hands none on.
        stall: how slow a peer may be that gives us a release; None for the usual rule.
        emit: told of who has all of a release from us.

    Attributes:
        swarms: the releases that are fetched by their trees.
        met: what else follows from a peer's HELLO; see ``Attend``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        namespace: Namespace,
        shelf: Shelf,
        census: Census,
        *,
        word: WordKeeper | None = None,
        stall: StallRule | None = None,
        emit: Emit = lambda _: None,
    ) -> None:
        self.endpoint = endpoint
        self.namespace = namespace
        self.shelf = shelf
        self.census = census
        self.met: Attend = _nothing
        self._stall = stall or DEFAULT_STALL
        self._word = word
        self._old = OldFiles()
        self._wrong_roots: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self._words = None if word is None else WordExchange(word, asyncio.get_running_loop().time)
        self._talking: set[asyncio.Task[None]] = set()
        self._met: WeakKeyDictionary[SessionV1, Hello] = WeakKeyDictionary()
        self._sessions: dict[bytes, SessionV1] = {}
        self.swarms = Swarms(endpoint.node_id, self._stall, self._sessions.values)
        self._giver = Giver(shelf, emit, self._gives, self.swarms.part_of, self._opened_root)
        self._begun: dict[SessionV1, asyncio.Event] = {}

    @property
    def alpn(self) -> str:
        """The namespace's."""
        return self.namespace.alpn_v1 or ""

    def suits(self, candidate: Candidate) -> bool:
        """Who said so, by a knock or by a HELLO; else of whom a record says so, which may be anybody's."""
        known = self.census.speaks_v1(candidate.address)
        return candidate.speaks_v1 if known is None else known

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Fetch by a connection that is open already, or dial; see ``Fetch``."""
        if self._root(candidate.info) is not None:
            opened = self._opened_root(candidate.info)
            await self._old.look(candidate.info, sink, None if opened is None else opened[0])
        async with self._session_with(candidate.address) as session:
            # The owner may have said something about that release which is not known here.
            await session.attended()
            return await self.over(session)(candidate, sink)

    def over(self, session: SessionV1) -> Fetch:
        """A fetch over a connection that is open."""

        async def fetch(candidate: Candidate, sink: Sink) -> PatchInfo:
            info = candidate.info
            info.verify(self.namespace.owner)
            root = self._root(info)
            if root is None or not await self._fetch_by_tree(session, info, root, sink):
                if candidate.is_partial:
                    raise PeerBusyError("it is still fetching it itself")
                await fetch_whole(session, info, sink, self._stall)
            return info

        return fetch

    def is_connected(self, address: Address) -> bool:
        """Whether we talk with the node there just now."""
        return self._session_at(address) is not None

    async def help(self, candidate: Candidate) -> None:
        """Take parts of a release that is being fetched from one more peer; how it went is told to the sink.

        Raises:
            PeerError: it cannot be reached.
        """
        await self.swarms.help(candidate.info, partial(self._session_with, candidate.address))

    async def _fetch_by_tree(self, session: SessionV1, info: PatchInfo, root: bytes, sink: Sink) -> bool:
        """Fetch what is not here, by the tree; False where that does not go, and nothing is lost by it."""
        drop = partial(note, self._wrong_roots, (info.release_id, root), None)
        self.census.news.tell()
        try:
            roots = Roots(root, self._opened_root(info))
            await self.swarms.fetch(session, info, roots, sink, old=self._old, drop=drop)
        except NoTreeError as error:
            _log.debug("%s is fetched as a whole: %s", info.version, error)
            return False
        except WrongTreeError as error:
            _log.warning("the tree that the owner signed for %s is none of its file: %s", info.version, error)
            drop()
            return False
        self._old.forget()
        return True

    def _root(self, info: PatchInfo) -> bytes | None:
        """Of the release's tree, as the owner says it; None where he does not, or where it was wrong."""
        word = None if self._word is None else self._word.current
        if word is None:
            return None
        told = {word.terms.info: b"tree", word.terms.stable: b"stree"}.get(info)
        tree = None if told is None else word.terms.trees.get(told)
        if tree is None or tree[0] != parameters_for(info.file_size).number:
            return None
        return None if (info.release_id, tree[1:]) in self._wrong_roots else tree[1:]

    def _opened_root(self, info: PatchInfo) -> bytes | None:
        """Of the release's opened content, behind its parameters' number, as the owner says it."""
        word = None if self._word is None else self._word.current
        stated = None if word is None or word.terms.info != info else word.terms.trees.get(b"otree")
        return stated if stated is not None and stated[0] >= OPENED and stated[0] in PARAMETERS else None

    async def answer(self, connection: Connection) -> None:
        """Talk with somebody who dialed us."""
        await self.run(self.enter(connection))

    def enter(
        self, connection: Connection, begun: asyncio.Event | None = None, *, patience: float = IDLE_SECONDS
    ) -> SessionV1:
        """Begin to talk over a connection, whoever dialed; ``run`` goes on.

        Of two connections with one node that stays which the lower id dialed; of two alike the newer one. The other
        ends with its last request.

        Args:
            begun: set when the peer begins to take a release of ours.
            patience: see ``SessionV1``.
        """
        session = stays = SessionV1(connection, self, patience=patience)
        peer = connection.peer_id
        if (other := self._sessions.get(peer)) is not None:
            by_lower = self.endpoint.node_id < peer
            stays = next((each for each in (session, other) if each.connection.dialed is by_lower), session)
            (other if stays is session else session).retire()
        self._sessions[peer] = stays
        if begun is not None:
            self._begun[session] = begun
        return session

    async def run(self, session: SessionV1) -> None:
        """Talk until the connection ends.

        Raises:
            PeerError: the peer broke the protocol.
        """
        try:
            await session.run()
        finally:
            self.swarms.hear(session)
            self._begun.pop(session, None)
            self._giver.end(session)
            peer = session.connection.peer_id
            if self._sessions.get(peer) is session:
                del self._sessions[peer]

    async def dial(self, address: Address) -> Connection:
        """Connect to whoever is there.

        Raises:
            PeerBusyError: it has no place for us now.
            OurselvesError: it is this node itself.
            PeerError: nobody answers, or it does not speak v1.
        """
        connection = await self.endpoint.connect(address, node_id=None, alpn=self.alpn, timeout=_DIAL_SECONDS)
        if connection.peer_id == self.endpoint.node_id:
            connection.close()
            raise OurselvesError(f"{format_address(address)} is this node itself")
        self.census.note_v1(address, speaks=True)
        return connection

    # What sessions ask (SessionHost).

    @property
    def news(self) -> Sequence[News]:
        """What we hold, what we fetch and give, what the owner says."""
        return (
            self.shelf.news,
            self.swarms.news,
            self._giver.news,
            *(() if self._word is None else (self._word.news,)),
        )

    @property
    def answers(self) -> Mapping[int, Answer]:
        """Every request that is known."""
        known: dict[int, Answer] = {Kind.RANGES: self._giver.answer_ranges, Kind.TREE: self._giver.answer_tree}
        return known if self._words is None else {**known, Kind.MANIFEST: self._words.answer}

    @property
    def attends(self) -> Sequence[Attend]:
        """The word first, for it says whether a release is wanted; the next word waits for no release."""
        return [self._attend] if self._words is None else [self._words.attend, self._attend]

    def hello(self) -> Hello:
        """What we say of ourselves."""
        seq, digest, mask = (None, b"", 0) if self._words is None else self._words.say()
        fetching, parts = self.swarms.say()
        if fetching in self.shelf.held:
            fetching, parts = None, NO_PARTS
        return Hello(
            fetching=fetching,
            parts=parts,
            held=tuple(self.shelf.held),
            given=tuple(map(self._giver.given, self.shelf.held)),
            seq=seq,
            digest=digest,
            mask=mask,
            gives=self.shelf.limiter.rate > 0,
            software="pypatcher",
        )

    def hear(self, session: SessionV1) -> None:
        """What it has, and lacks; each second that this comes later counts at each device that parts go through."""
        self._giver.attend(session)
        self.swarms.hear(session)

    def keeps(self, session: SessionV1) -> bool:
        """See ``Swarms``."""
        return self.swarms.keeps(session)

    async def _attend(self, session: SessionV1) -> None:
        if self.keeps(session):
            # Whoever meets others goes on to the next.
            self._gives(session)
        if session.hello is None or (self._words is not None and self._words.lacks(session)):
            return
        # That it has, or gave, some parts more is nothing new.
        said = replace(session.hello, parts=NO_PARTS, given=())
        if self._met.get(session) != said:
            self._met[session] = said
            await self.met(session)

    def _gives(self, session: SessionV1) -> None:
        if (begun := self._begun.get(session)) is not None:
            begun.set()

    @contextlib.asynccontextmanager
    async def _session_with(self, address: Address) -> AsyncIterator[SessionV1]:
        there = self._session_at(address)
        if there is not None:
            yield there
            return
        connection = await self.dial(address)
        session = self.enter(connection)
        talking = asyncio.create_task(self._talk(session))
        try:
            yield self._sessions[connection.peer_id]
        finally:
            # It ends a moment later, for the peer is to hear what came of it, or once it has what it takes of ours.
            session.retire()
            self._talking.add(talking)
            talking.add_done_callback(self._talking.discard)

    def _session_at(self, address: Address) -> SessionV1 | None:
        there = (each for each in self._sessions.values() if each.connection.peer_address == address)
        return next((each for each in there if not each.connection.is_closed), None)

    async def _talk(self, session: SessionV1) -> None:
        try:
            await self.run(session)
        except PeerError as error:
            _log.debug("a connection to %s ended: %s", format_address(session.connection.peer_address), error)


async def _nothing(_session: SessionV1) -> None:
    return
