"""A Mainline DHT node of one address family, without a socket: datagrams come in, datagrams go out by ``send``.

Gives the sans-IO parts (routing table, lookups, server) their time and their tasks: who is known and who is silent, one
question, a lookup of any kind. BEP 5, 32, 42, 43. An idle node causes little traffic. Not here: what is looked up and
stored (``node``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random, SystemRandom

from pypatcher.addresses import Address, family, format_address, is_lan
from pypatcher.bencode import Value
from pypatcher.dht import knock, krpc
from pypatcher.dht.calls import Calls, NoAnswerError, Question
from pypatcher.dht.crowd import Near, Silence
from pypatcher.dht.external import ExternalVotes
from pypatcher.dht.knock import Answered
from pypatcher.dht.krpc import Query, Response
from pypatcher.dht.lookup import MAX_QUERIES, NEAREST, Lookup
from pypatcher.dht.maintenance import Maintenance
from pypatcher.dht.nodeid import Contact, is_secure, random_id, secure_id
from pypatcher.dht.routing import RoutingTable
from pypatcher.dht.search import Answers, search
from pypatcher.dht.server import Server
from pypatcher.errors import CodecError, PeerError
from pypatcher.limits import RateLimiter

__all__ = ["RpcNode"]

_log = logging.getLogger("pypatcher.dht")

_LOOKUPS_AT_ONCE = 8
_LOOKUP_TRIES = 2
_PROBES = (2.0, 64.0)
_ID_LIFETIME = 600.0
_BEP_5 = frozenset((b"ping", b"find_node", b"get_peers", b"announce_peer"))
_KNOCK_WAIT, _KNOCK_WAIT_NEAR = 5.0, 1.5


class RpcNode:
    """A DHT node that asks, answers and looks up; it owns no socket.

    Args:
        send: called with each datagram to send and its destination.
        family: 4 or 6; addresses of the other family are ignored.
        bootstrap: entry points, names or literal addresses; many nodes may be at the host of a literal one.
        read_only: tell others not to ask us (BEP 43), and answer nobody.
        clock: monotonic seconds.
        random: where ids, tokens and jitter come from; the system's by default.
        secret: at most 64 bytes; ``knock`` finds out who else knows it.
    """

    def __init__(
        self,
        send: Callable[[bytes, Address], None],
        *,
        family: int = 4,
        bootstrap: Sequence[Address] = (),
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        secret: bytes = b"",
    ) -> None:
        self.family = family
        self.read_only = read_only
        self._socket = send
        self._clock = clock
        self._random = random or SystemRandom()
        self._table = RoutingTable(random_id(self._random), Near(bootstrap))
        self._secret = secret
        self._server = Server(self._table, family, self._random, clock(), secret)
        self._calls = Calls(self._send, clock, self._random, self._table.near)
        self._votes = ExternalVotes(self._table.near)
        self._lookups = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        self._probes = RateLimiter(*_PROBES, capacity=1)
        self._someone = asyncio.Event()
        self._silence, self._mute = Silence(), Silence()
        self._adopted = -_ID_LIFETIME
        self._last_answer: float | None = None
        self._last_answer_from_outside: float | None = None
        self._is_stopped = False
        self._maintenance = Maintenance(self, bootstrap, self._random)

    @property
    def node_id(self) -> bytes:
        """Our 20 bytes; they change when others told us our address (BEP 42), every 10 minutes at most."""
        return self._table.own_id

    @property
    def table(self) -> RoutingTable:
        """Whom we know."""
        return self._table

    @property
    def server(self) -> Server:
        """What we keep for others."""
        return self._server

    @property
    def clock(self) -> Callable[[], float]:
        """The node's monotonic clock."""
        return self._clock

    @property
    def external_address(self) -> Address | None:
        """Our address as most other networks see it, or None while too few have said."""
        return self._votes.address

    @property
    def external_port_varies(self) -> bool | None:
        """Whether others see us at different ports (a router hard to pass); None while too few have said."""
        return self._votes.port_varies

    @property
    def last_answer(self) -> float | None:
        """When a node last answered us, by ``clock``; None before the first."""
        return self._last_answer

    @property
    def last_answer_from_outside(self) -> float | None:
        """The same of nodes that are not in our LAN."""
        return self._last_answer_from_outside

    def address_changed(self) -> None:
        """This machine has another address: what others saw until now says nothing any more."""
        self._votes = ExternalVotes(self._table.near)

    async def start(self, known_nodes: Iterable[Address] = ()) -> None:
        """Join in the background and keep the table alive; returns at once.

        Args:
            known_nodes: of an earlier run, asked together with the entry points.
        """
        self._maintenance.start(known_nodes)

    async def stop(self) -> None:
        """End every task and question for good; the socket's owner stays in charge of the socket."""
        self._is_stopped = True
        await self._maintenance.stop()
        self._calls.close()

    async def joined(self) -> None:
        """Wait until somebody is in the routing table, and a moment more while we look around for others."""
        await self._someone.wait()
        await self._maintenance.settled()

    def introduce(self, contacts: Iterable[Contact]) -> None:
        """Take nodes into the table unasked: for networks that one process sets up as a whole."""
        now = self._clock()
        for contact in contacts:
            self._table.answered(contact, now)
        if len(self._table):
            self._someone.set()

    def nodes(self) -> list[Address]:
        """Nodes that answered lately, the last one first: what to keep for the next start."""
        return [contact.address for contact in self._table.good()]

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take a KRPC datagram; never raises, whatever it holds."""
        if self._is_stopped or "%" in source[0]:  # link-local addresses cannot be told to others
            return
        try:
            message = krpc.decode(data)
        except CodecError:
            return
        if isinstance(message, Query):
            self._query_received(message, source)
        elif self._calls.received(message, source) and isinstance(message, Response):
            self._answer_received(message, source)

    async def ping(self, address: Address, *, tries: int = 2) -> bool:
        """Whether a node answers there; at most ``tries`` packets."""
        try:
            await self.ask(address, b"ping", {}, tries=tries)
        except PeerError:
            return False
        return True

    async def knock(self, address: Address, *, tries: int = 1) -> Answered:
        """Who answers there: a node that knows our secret, another one, or nobody; at most ``tries`` packets.

        It has time to answer, since the next knock is far. Who answers and does not know the secret was named by
        somebody else and stays unknown here: it never asked to be in our table.
        """
        nonce = knock.nonce_v1(self._secret, self._random.randbytes(knock.NONCE_SIZE // 2))
        try:
            answer = await self._calls.query(
                address,
                b"ping",
                self.node_id,
                {knock.FIELD: knock.ask(self._secret, nonce)},
                read_only=self.read_only,
                tries=tries,
                knock_wait=_KNOCK_WAIT_NEAR if is_lan(address) else _KNOCK_WAIT,
            ).answer
        except PeerError:
            return Answered.NOBODY
        answered = knock.who_answered(self._secret, nonce, answer.values)
        if answered.is_member:
            self._answer_received(answer, address)
        return answered

    async def find_nodes(
        self, target: bytes, seeds: Iterable[Contact] = (), *, max_queries: int = MAX_QUERIES
    ) -> list[Contact]:
        """The 20 nodes nearest to ``target`` that answer; ``seeds`` are asked beside those that we know.

        Each is asked once: a map may have gaps, a value may not be missed.
        """
        answers = await self._lookup(b"find_node", b"target", target, seeds=seeds, max_queries=max_queries, tries=1)
        return [contact for contact, _ in answers.nearest]

    async def ask(
        self, address: Address, method: bytes, arguments: Mapping[bytes, Value], *, tries: int = 2
    ) -> Response:
        """One query.

        Raises:
            PeerError: no answer, or an error as answer.
        """
        return await self._ask(address, method, arguments, tries).answer

    def _send(self, data: bytes, address: Address) -> None:
        try:
            self._socket(data, address)
        except OSError as error:
            _log.debug("a packet to %s was not sent: %s", format_address(address), error)

    def _ask(self, address: Address, method: bytes, arguments: Mapping[bytes, Value], tries: int) -> Question:
        question = self._calls.query(address, method, self.node_id, arguments, read_only=self.read_only, tries=tries)
        question.answer.add_done_callback(partial(self._note_if_silent, method, address))
        return question

    def _query_received(self, query: Query, source: Address) -> None:
        if self.read_only or query.sender == self.node_id:
            return
        now = self._clock()
        answer = self._server.answer(query, source, now)
        if answer is None:
            return
        self._send(answer, source)
        if not query.read_only:
            contact = Contact(query.sender, source)
            if krpc.is_usable(source) and self._table.wants(contact) and self._probes.allow(None, now):
                self._maintenance.probe(source)

    def _answer_received(self, answer: Response, source: Address) -> None:
        self._last_answer = now = self._clock()
        if not is_lan(source):
            self._last_answer_from_outside = now
        self._silence.end(source, now)
        self._table.answered(Contact(answer.sender, source), now)
        if len(self._table):
            self._someone.set()
        if answer.observed is not None and family(answer.observed) == self.family:
            self._votes.add(source, answer.observed)
            self._adopt_secure_id()

    def _adopt_secure_id(self) -> None:
        seen, now = self._votes.address, self._clock()
        if seen is None or is_secure(self.node_id, seen[0]):
            return
        if now - self._adopted >= _ID_LIFETIME:
            self._adopted = now
            self._table.rebase(secure_id(seen[0], self._random))
            self._maintenance.refresh_soon()

    def _note_if_silent(self, method: bytes, address: Address, answer: asyncio.Future[Response]) -> None:
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, NoAnswerError) and error.asked:
            self._note_silence(method, address)

    def _note_silence(self, method: bytes, address: Address) -> None:
        """A node did not answer: it may be dead, or know BEP 5 alone; a ping tells these apart."""
        if method not in _BEP_5:
            if self._probes.allow(None, self._clock()):
                self._maintenance.probe(address, self._mute)
            return
        self._silence.begin(address, self._clock())
        self._table.failed(address)
        if not len(self._table):
            self._someone.clear()
            self._maintenance.rejoin()

    def _whom_to_avoid(self, method: bytes) -> Callable[[Address], bool]:
        """Tells of ourselves under an earlier id, of nodes silent a moment ago, unless they answered us once, and of
        those that lately answered nothing but BEP 5, where more is asked."""
        ourselves = self.external_address

        def avoid(address: Address) -> bool:
            now = self._clock()
            silent = self._silence.holds(address, now) and not self._table.knows(address)
            return silent or address == ourselves or (method not in _BEP_5 and self._mute.holds(address, now))

        return avoid

    async def _lookup(
        self,
        method: bytes,
        name: bytes,
        target: bytes,
        *,
        more: Mapping[bytes, Value] | None = None,
        seeds: Iterable[Contact] = (),
        max_queries: int = MAX_QUERIES,
        tries: int = _LOOKUP_TRIES,
    ) -> Answers:
        async with self._lookups:
            seeds = [*self._table.nearest(target, 2 * NEAREST), *seeds]
            lookup = Lookup(
                target,
                seeds,
                own_id=self.node_id,
                max_queries=max_queries,
                avoid=self._whom_to_avoid(method),
                near=self._table.near,
            )
            ask = partial(self._ask, method=method, arguments={name: target, **(more or {})}, tries=tries)
            answers = await search(lookup, ask, self.family)
        if not answers.nearest:
            self._maintenance.rejoin()
        return answers
