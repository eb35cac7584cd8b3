"""Lookups and writes of a Mainline node: mutable items (BEP 44) and peers (BEP 5) at other nodes.

Decides which items and peers are believed. Not here: how one question is asked (``rpc``), and what we store for others
(``storage``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from pypatcher.addresses import Address, family, is_lan
from pypatcher.bencode import Value
from pypatcher.dht import krpc
from pypatcher.dht.krpc import RemoteError, Response
from pypatcher.dht.lookup import MAX_QUERIES
from pypatcher.dht.nodeid import Contact
from pypatcher.dht.peers import PeerPoll
from pypatcher.dht.results import ItemAnswer, ItemLookup, MutableLookup, PeersLookup, StoringNode
from pypatcher.dht.rpc import RpcNode
from pypatcher.dht.search import Answers
from pypatcher.errors import PeerError
from pypatcher.mutable_item import MutableItem, mutable_target

__all__ = ["DhtNode"]

_log = logging.getLogger("pypatcher.dht")

_FRESH_LOOKUP = 240.0
_PUT_TRIES = 3
_OWN_PEERS = 500


class DhtNode(RpcNode):
    """A whole DHT node, made as ``RpcNode`` is."""

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        """Look up the item of a key (32 bytes) and salt (0 to 64) at the 20 nodes nearest to it.

        Every answer is checked: the item's key is the one asked for, its signature that of the key.
        """
        target = mutable_target(public_key, salt)
        found: dict[MutableItem, None] = {}
        own = self._server.items.get(target, self._clock())
        if own is not None and own.public_key == public_key:
            found[own] = None
        answers = await self._lookup(b"get", b"target", target)
        for item in dict.fromkeys(krpc.item_of(answer.values, salt) for _, answer in answers.every):
            if item is not None and item.public_key == public_key and item not in found:
                await asyncio.sleep(0)  # many signatures in a row would keep the loop from everything else
                if item.verify():
                    found[item] = None
        items = tuple(sorted(found, key=lambda item: item.seq, reverse=True))
        return MutableLookup(target, items, _storing(answers, salt), self._clock())

    async def find_item(
        self, public_key: bytes, salt: bytes, *, known: int | None = None, near: Iterable[Contact] = ()
    ) -> ItemLookup:
        """Look up what each node near a key (32 bytes) and salt (0 to 64) keeps there; nothing of it is checked.

        Args:
            known: a seq that is known here: who has no higher one need not send its item (BEP 44).
            near: nodes that were near to it in an earlier lookup.
        """
        target = mutable_target(public_key, salt)
        answers = await self._lookup(b"get", b"target", target, more=_filter(known), seeds=near)
        near_ones = {contact.address for contact, _ in answers.nearest}
        nearest = tuple(_item_answer(public_key, salt, *answer) for answer in answers.nearest)
        others = (_item_answer(public_key, salt, *each) for each in answers.every if each[0].address not in near_ones)
        return ItemLookup(
            target, nearest, tuple(each for each in others if each.seq is not None), _storing(answers), self._clock()
        )

    async def ask_storers(
        self, storers: Sequence[Contact], public_key: bytes, salt: bytes, *, known: int | None = None
    ) -> list[ItemAnswer]:
        """What those nodes keep under a key and salt, of those that answer; see ``find_item``."""
        arguments = {b"target": mutable_target(public_key, salt), **_filter(known)}
        ours = [contact for contact in storers if family(contact.address) == self.family]
        questions = (self.ask(contact.address, b"get", arguments, tries=1) for contact in ours)
        answers = await asyncio.gather(*questions, return_exceptions=True)
        return [
            _item_answer(public_key, salt, contact, answer)
            for contact, answer in zip(ours, answers, strict=True)
            if isinstance(answer, Response)
        ]

    async def put_mutable(
        self, item: MutableItem, at: MutableLookup | ItemLookup | None = None, *, cas: int | None = None
    ) -> int:
        """Store an item on the 20 nodes nearest to its target; returns how many said that they did.

        Args:
            item: signed by its key.
            at: a lookup of the same target, to save another one; not used once it is 4 minutes old.
            cas: store only where this is the seq now (BEP 44).
        """
        if at is None or at.target != item.target or self._clock() - at.time > _FRESH_LOOKUP:
            at = await self.get_mutable(item.public_key, item.salt)
        arguments: dict[bytes, Value] = {
            b"k": item.public_key,
            b"seq": item.seq,
            b"sig": item.signature,
            b"target": item.target,  # Rust nodes store nothing without it
            b"v": item.value,
        }
        if item.salt:
            arguments[b"salt"] = item.salt
        if cas is not None:
            arguments[b"cas"] = cas
        return await self._write(b"put", arguments, at.nodes)

    async def find_peers(
        self, info_hash: bytes, near: Iterable[Contact] = (), *, most: int | None = None
    ) -> PeersLookup:
        """Peers announced for an info-hash (20 bytes), and the nodes to announce on.

        Args:
            near: nodes that were near to it in an earlier lookup: with them this one takes fewer packets.
            most: nodes that are asked, the nearest first; None: as many as it takes.
        """
        poll = PeerPoll()
        poll.add(self._server.peers.get(info_hash, self._clock(), _OWN_PEERS, self._random))
        bound = MAX_QUERIES if most is None else most
        answers = await self._lookup(b"get_peers", b"info_hash", info_hash, seeds=near, max_queries=bound)
        for contact, answer in answers.every:
            is_near = is_lan(contact.address)
            poll.add(peer for peer in krpc.peers_of(answer.values, self.family) if is_near or not is_lan(peer))
        peers, confirmed = poll.result()
        return PeersLookup(info_hash, peers, confirmed, _storing(answers), self._clock())

    async def get_peers(self, info_hash: bytes) -> list[Address]:
        """Peers announced for an info-hash (20 bytes), each once."""
        return list((await self.find_peers(info_hash)).peers)

    async def ask_for_peers(self, info_hash: bytes, storers: Iterable[Contact]) -> list[Address]:
        """The peers that those nodes know for an info-hash, each once; a few packets instead of a lookup's many."""
        ours = [contact.address for contact in storers if family(contact.address) == self.family]
        questions = (self.ask(address, b"get_peers", {b"info_hash": info_hash}, tries=1) for address in ours)
        poll = PeerPoll()
        for address, answer in zip(ours, await asyncio.gather(*questions, return_exceptions=True), strict=True):
            if isinstance(answer, Response):
                named = krpc.peers_of(answer.values, self.family)
                poll.add(peer for peer in named if is_lan(address) or not is_lan(peer))
        return list(poll.result()[0])

    async def announce_peer(self, info_hash: bytes, port: int | None = None, at: PeersLookup | None = None) -> int:
        """Announce us for an info-hash at ``port``, or at the one that others see us at; returns how many said ok.

        Args:
            at: a lookup of the same info-hash, to save another one; not used once it is 4 minutes old.
        """
        if at is None or at.info_hash != info_hash or self._clock() - at.time > _FRESH_LOOKUP:
            at = await self.find_peers(info_hash)
        known = self.external_address
        arguments: dict[bytes, Value] = {
            b"implied_port": int(port is None),
            b"info_hash": info_hash,
            b"port": port if port is not None else (known[1] if known else 0),
        }
        return await self._write(b"announce_peer", arguments, at.nodes)

    async def _write(self, method: bytes, arguments: Mapping[bytes, Value], nodes: Sequence[StoringNode]) -> int:
        ours = [node for node in nodes if family(node.contact.address) == self.family]
        results = await asyncio.gather(
            *(
                self.ask(node.contact.address, method, {**arguments, b"token": node.token}, tries=_PUT_TRIES)
                for node in ours
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, RemoteError):
                _log.debug("%s refused: %s", method.decode(), result)
            elif isinstance(result, BaseException) and not isinstance(result, PeerError):
                raise result
        return sum(isinstance(result, Response) for result in results)


def _storing(answers: Answers, salt: bytes | None = None) -> tuple[StoringNode, ...]:
    """Of the nearest nodes those that let us store, with what they keep under that salt."""
    return tuple(
        StoringNode(contact, token, None if salt is None else krpc.item_of(answer.values, salt))
        for contact, answer in answers.nearest
        if (token := krpc.token_of(answer.values)) is not None
    )


def _filter(known: int | None) -> dict[bytes, Value]:
    return {} if known is None else {b"seq": known}


def _item_answer(public_key: bytes, salt: bytes, contact: Contact, answer: Response) -> ItemAnswer:
    item, seq = krpc.item_of(answer.values, salt), answer.values.get(b"seq")
    if item is not None and item.public_key != public_key:
        item = seq = None
    return ItemAnswer(contact, seq if isinstance(seq, int) else None, item)
