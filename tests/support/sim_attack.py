"""Who wants a fleet of simulated devices to hear nothing: ids beside every static name, junk in every minute slot.

Everything that he needs follows from the owner's public key, which is in every copy of the program. His hosts answer
at once, lose nothing themselves, and name each other.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from pypatcher.addresses import Address
from pypatcher.bencode import Value
from pypatcher.dht import Contact, DhtNode, krpc
from pypatcher.dht.krpc import Query
from pypatcher.discovery import Namespace
from pypatcher.discovery.slots import Slot, unix_minute
from pypatcher.errors import CodecError, PatcherError
from pypatcher.mutable_item import MAX_SEQ, MutableItem
from tests.support.sim_network import PORT, SimHost, SimNetwork

__all__ = ["JunkWriter", "Says", "besiege"]

Says = Callable[[bytes], MutableItem | None]
"""What his hosts say to keep at a target; None: nothing."""
_PER_HOST, _HOSTS_PER_NETWORK = 2, 4
_JUNK_EVERY = 5.0
_JUNK_SIZE = 900


class _FalseNode:
    def __init__(self, network: SimNetwork, host: SimHost, node_id: bytes, says: Says) -> None:
        self.contact = Contact(node_id, host.address)
        self.others: Sequence[Contact] = ()
        self._network, self._host, self._says = network, host, says
        host.receive = self._received

    def _received(self, data: bytes, source: Address) -> None:
        try:
            query = krpc.decode(data)
        except CodecError:
            return
        if not isinstance(query, Query):
            return
        values: dict[bytes, Value] = {b"token": b"t", b"nodes": krpc.pack_nodes(self.others)}
        target = query.arguments.get(b"target")
        item = self._says(target) if query.method == b"get" and isinstance(target, bytes) else None
        if item is not None:
            values |= {b"k": item.public_key, b"seq": item.seq, b"sig": item.signature, b"v": item.value}
        answer = krpc.encode_response(query.transaction, self.contact.id, values, source)
        self._network.send(self._host, answer, source)


def besiege(network: SimNetwork, names: Sequence[bytes], count: int, says: Says, rng: random.Random) -> list[Contact]:
    """Set ``count`` ids beside these names, as many beside each: two a host, eight a /24, each /24 in a /16 of its own.

    More of one network no node of ours would take into a lookup; no id is one that BEP 42 allows, for those nearer than
    honest ones cost as many addresses as there are honest nodes.
    """
    found = []
    for number in range(count):
        beside, turn = number % len(names), number // len(names)
        group, within = divmod(turn // _PER_HOST * len(names) + beside, _HOSTS_PER_NETWORK)
        address = f"{120 + group // 250}.{group % 250}.0.{1 + within}", PORT + turn % _PER_HOST
        node_id = names[beside][:17] + rng.randbytes(3)
        found.append((beside, _FalseNode(network, network.host(address), node_id, says)))
    for beside in range(len(names)):
        circle = [sybil for name_number, sybil in found if name_number == beside]
        for sybil in circle:
            sybil.others = [each.contact for each in rng.sample(circle, min(8, len(circle)))]
    return [sybil.contact for _, sybil in found]


class JunkWriter:
    """Writes junk of the highest seq into this minute's slot and the next, before anybody honest is there."""

    def __init__(self, node: DhtNode, namespace: Namespace, rng: random.Random) -> None:
        self._node = node
        self._namespace = namespace
        self._rng = rng

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            minute = unix_minute(time.time())
            for slot in (Slot(self._namespace, minute), Slot(self._namespace, minute + 1)):
                junk = MutableItem.sign(slot.key_pair, slot.salt, MAX_SEQ, self._rng.randbytes(_JUNK_SIZE))
                try:
                    await self._node.put_mutable(junk)
                except PatcherError:
                    continue
            await asyncio.sleep(_JUNK_EVERY)
