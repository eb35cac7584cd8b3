"""Answers queries: the storing side of a Mainline node (BEP 5, 32, 42, 44), as a function from query to datagram.

Sans-IO; time is passed in. Bounded: answers per source and in all, items and peers kept; sizes are checked before
signatures. A question can come in somebody else's name, and most answers are larger than their questions: so an answer
fits one small packet, and a source outside the LAN gets few. Pings, whose answers are no larger, have a budget of their
own, and so have knocks of members: no stranger's flood keeps those from their answers. Of two items with the same seq
the first stays, and the writer of the other is told so (302), so that it does not believe that it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from pypatcher.addresses import Address, host_of, is_lan, pack_compact
from pypatcher.bencode import Value
from pypatcher.dht import krpc
from pypatcher.dht.knock import SeenKnocks, answer_knock
from pypatcher.dht.krpc import Query, RemoteError
from pypatcher.dht.nodeid import ID_SIZE
from pypatcher.dht.routing import RoutingTable
from pypatcher.dht.storage import ItemStore, PeerStore
from pypatcher.dht.tokens import Tokens
from pypatcher.limits import RateLimiter
from pypatcher.mutable_item import MAX_SALT, MAX_VALUE, MutableItem, mutable_target

__all__ = ["Server"]

_LARGEST = 1232
"""Bytes of an answer: what fits an IPv6 packet of 1280 bytes, which every path takes whole."""
_NODES_ALONE, _NODES_WITH_OTHERS = 16, 8
_PEERS = {4: 80, 6: 30}
_FAR_EACH, _FAR_ALL = (6_000.0, 25_000.0), (30_000.0, 150_000.0)
"""Bytes a second and at once, of answers to outside the LAN."""


class _Budget:
    """How many bytes go to one source and to all together: a rate per second and a burst of each."""

    def __init__(self, bytes_each: tuple[float, float], bytes_all: tuple[float, float]) -> None:
        self._answers = RateLimiter(20.0, 100.0)
        self._each = RateLimiter(*bytes_each)
        self._all = RateLimiter(*bytes_all, capacity=1)

    def admits(self, source: Address, now: float) -> bool:
        """Whether an answer to ``source`` is worth its computing."""
        return self._answers.allow(host_of(source), now)

    def covers(self, source: Address, now: float, size: int) -> bool:
        """Whether an answer of that size may be sent; if so it is counted."""
        return self._each.allow(host_of(source), now, size) and self._all.allow(None, now, size)


class Server:
    """Answers for the node that owns ``table``; ``siblings`` are tables of other families (BEP 32 ``want``).

    Args:
        secret: who knows it too may know us by a knock.
    """

    def __init__(self, table: RoutingTable, family: int, random: Random, now: float, secret: bytes = b"") -> None:
        self.table = table
        self.peers = PeerStore()
        self.items = ItemStore()
        self.siblings: dict[int, RoutingTable] = {}
        self._family = family
        self._secret = secret
        self._seen_knocks = SeenKnocks()
        self._random = random
        self._tokens = Tokens(random, now)
        self._pings, self._knocks = (_Budget((2_000.0, 10_000.0), (50_000.0, 100_000.0)) for _ in range(2))
        self._near = _Budget((25_000.0, 125_000.0), (50_000.0, 500_000.0))
        self._far = _Budget(_FAR_EACH, _FAR_ALL)
        self._methods: dict[bytes, Callable[[Mapping[bytes, Value], Address, float], dict[bytes, Value]]] = {
            b"ping": self._ping,
            b"find_node": self._find_node,
            b"get_peers": self._get_peers,
            b"announce_peer": self._announce_peer,
            b"get": self._get,
            b"put": self._put,
        }

    def answer(self, query: Query, source: Address, now: float) -> bytes | None:
        """The datagram to send back, or None for a source that asks too much."""
        proof = answer_knock(self._secret, query.arguments) if query.method == b"ping" else {}
        if proof and not self._seen_knocks.admits(query.arguments, source):
            proof = {}
        budget = self._budget(query, source, bool(proof))
        if not budget.admits(source, now):
            return None
        method = self._methods.get(query.method)
        try:
            if method is None:
                raise RemoteError(204, "method unknown")
            data = self._encode(query.transaction, {**method(query.arguments, source, now), **proof}, source)
        except RemoteError as error:
            data = krpc.encode_failure(query.transaction, error.code, error.text)
        return data if budget.covers(source, now, len(data)) else None

    def _budget(self, query: Query, source: Address, is_knock: bool) -> _Budget:
        if query.method == b"ping":
            return self._knocks if is_knock else self._pings
        return self._near if is_lan(source) else self._far

    def _encode(self, transaction: bytes, values: dict[bytes, Value], source: Address) -> bytes:
        """The answer, with as many nodes as fit; those of the other family are the first to go."""
        data = krpc.encode_response(transaction, self.table.own_id, values, source)
        for family in sorted(krpc.NODE_FIELDS, key=self._family.__eq__):
            field, size = krpc.NODE_FIELDS[family]
            nodes, excess = values.get(field), len(data) - _LARGEST
            if excess > 0 and isinstance(nodes, bytes):
                if excess < len(nodes):
                    values[field] = nodes[: (len(nodes) - excess) // size * size]
                else:
                    del values[field]
                data = krpc.encode_response(transaction, self.table.own_id, values, source)
        return data

    def _ping(self, arguments: Mapping[bytes, Value], source: Address, now: float) -> dict[bytes, Value]:
        return {}

    def _find_node(self, arguments: Mapping[bytes, Value], source: Address, now: float) -> dict[bytes, Value]:
        return self._nodes(_target(arguments, b"target"), arguments, source, _NODES_ALONE)

    def _get_peers(self, arguments: Mapping[bytes, Value], source: Address, now: float) -> dict[bytes, Value]:
        info_hash = _target(arguments, b"info_hash")
        peers = self.peers.get(info_hash, now, _PEERS[self._family], self._random)
        values = self._nodes(info_hash, arguments, source, _NODES_WITH_OTHERS if peers else _NODES_ALONE)
        values[b"token"] = self._tokens.make(source[0], info_hash, now)
        if peers:
            values[b"values"] = [pack_compact(peer) for peer in peers]
        return values

    def _announce_peer(self, arguments: Mapping[bytes, Value], source: Address, now: float) -> dict[bytes, Value]:
        info_hash = _target(arguments, b"info_hash")
        self._check_token(arguments, info_hash, source, now)
        port = arguments.get(b"port")
        if arguments.get(b"implied_port") == 1:
            port = source[1]
        if not isinstance(port, int) or not 1 <= port <= 65535:
            raise RemoteError(203, "invalid port")
        self.peers.add(info_hash, (source[0], port), now)
        return {}

    def _get(self, arguments: Mapping[bytes, Value], source: Address, now: float) -> dict[bytes, Value]:
        target = _target(arguments, b"target")
        item = self.items.get(target, now)
        values = self._nodes(target, arguments, source, _NODES_WITH_OTHERS if item else _NODES_ALONE)
        values[b"token"] = self._tokens.make(source[0], target, now)
        if item is not None:
            values[b"seq"] = item.seq
            known = arguments.get(b"seq")
            if not isinstance(known, int) or item.seq > known:
                values.update({b"k": item.public_key, b"sig": item.signature, b"v": item.value})
        return values

    def _put(self, arguments: Mapping[bytes, Value], source: Address, now: float) -> dict[bytes, Value]:
        item = _item(arguments)
        target = mutable_target(item.public_key, item.salt)
        self._check_token(arguments, target, source, now)
        stored = self.items.get(target, now)
        if stored is not None:
            cas = arguments.get(b"cas")
            if isinstance(cas, int) and cas != stored.seq:
                raise RemoteError(301, "cas mismatch")
            if item.seq < stored.seq or (item.seq == stored.seq and item.value != stored.value):
                raise RemoteError(302, "seq is not newer")
        if item != stored and not item.verify():
            raise RemoteError(206, "invalid signature")
        self.items.put(item, source, now)
        return {}

    def _check_token(self, arguments: Mapping[bytes, Value], target: bytes, source: Address, now: float) -> None:
        if not self._tokens.check(arguments.get(b"token"), source[0], target, now):
            raise RemoteError(203, "invalid token")

    def _nodes(
        self, target: bytes, arguments: Mapping[bytes, Value], source: Address, count: int
    ) -> dict[bytes, Value]:
        want = arguments.get(b"want")
        families = [family for family in krpc.NODE_FIELDS if isinstance(want, list) and b"n%d" % family in want]
        if len(families) > 1:
            count = _NODES_WITH_OTHERS
        values: dict[bytes, Value] = {}
        for family in families or [self._family]:
            table = self.table if family == self._family else self.siblings.get(family)
            if table is None:
                continue
            nearest = table.nearest(target, count, good=True)
            if not is_lan(source):
                nearest = [contact for contact in nearest if not is_lan(contact.address)]
            values[krpc.NODE_FIELDS[family][0]] = krpc.pack_nodes(nearest)
        return values


def _target(arguments: Mapping[bytes, Value], name: bytes) -> bytes:
    target = arguments.get(name)
    if not isinstance(target, bytes) or len(target) != ID_SIZE:
        raise RemoteError(203, f"{name.decode()} must have 20 bytes")
    return target


def _item(arguments: Mapping[bytes, Value]) -> MutableItem:
    value, salt = arguments.get(b"v"), arguments.get(b"salt", b"")
    if not isinstance(value, bytes) or not isinstance(salt, bytes):
        raise RemoteError(203, "only byte strings are stored")
    if len(value) > MAX_VALUE:
        raise RemoteError(205, "value too big")
    if len(salt) > MAX_SALT:
        raise RemoteError(207, "salt too big")
    item = krpc.item_of(arguments, salt)
    if item is None:
        raise RemoteError(203, "k, seq and sig are missing or malformed")
    return item
