"""An attacker in the lab's DHT: nodes next to a fleet's info-hashes that name whom they like, and forged records.

Run in a namespace of its own as ``python -m tests.nat.sybils`` with an ``Attack`` as JSON on its input's first line;
ends with its input. Everything that it knows everybody knows who has a copy of the program: the owner's public key
and the signed release.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from subprocess import PIPE, Popen
from typing import cast

from pypatcher.addresses import Address, pack_compact, parse_addresses
from pypatcher.artifact import PatchInfo
from pypatcher.bencode import Value
from pypatcher.dht import Contact, MutableItem, MutableLookup, UdpDht, krpc
from pypatcher.discovery import Namespace, Record, Slot, encode_content, encrypt_record, namespace_hash
from pypatcher.discovery.namespace import release_hash
from pypatcher.errors import CodecError
from pypatcher.keys import KeyPair, OwnerKey, decode_key
from tests.nat.lab import Lab

__all__ = ["Attack", "Sybil", "keep_meeting", "start_attack", "start_attacker"]

_EACH = 8
_NAMED = 400
_PORT = 6881
_MEET_EVERY, _RECORDS_EVERY = 5.0, 10.0
_FORGERS, _NODES_EACH = 3, 5


@dataclass(frozen=True)
class Attack:
    """Whom to harm, and whose fleet is to do it.

    Attributes:
        public_key: the fleet's owner, as text.
        target: of the fleet's programs.
        info: the release that is out, in postcard, hex.
        bootstrap: entry points of the DHT.
        forged: addresses that nobody has, from 23.0.0.1 on.
        victim: named too, with the ports from 1 to 100; empty for none.
        network: 20.N.0.0/16 is the attacker's.
    """

    public_key: str
    target: str
    info: str
    bootstrap: str
    forged: int
    victim: str
    network: int

    @property
    def addresses(self) -> list[Address]:
        """All that are named."""
        victims = [(self.victim, port) for port in range(1, 101)] if self.victim else []
        return [(f"23.{number >> 8 & 255}.{number & 255}.9", 6881) for number in range(self.forged)] + victims

    def hosts(self) -> list[str]:
        """Of the attacker's nodes, each in a network of its own."""
        return [f"20.{self.network}.{number}.1" for number in range(1, 2 * _EACH + 2)]


def start_attack(world: Lab, attack: Attack) -> Popen[str]:
    """Begin; it ends with its input or the world."""
    told = json.dumps(asdict(attack))
    return start_attacker(world, "tests.nat.sybils", told, [f"20.{attack.network}"], attack.hosts())


def start_attacker(world: Lab, module: str, told: str, networks: Sequence[str], hosts: Sequence[str]) -> Popen[str]:
    """Begin to run that module, whose first line of input is what it is told, at hosts in these /16s."""
    namespace = world.namespace(f"attacker{networks[0]}")
    line, _ = world.connect(namespace, world.new_site())
    world.ip(world.internet, *(f"route add {network}.0.0/16 via {line}" for network in networks))
    world.ip(namespace, *(f"addr add {host}/32 dev wan0" for host in hosts))
    process = Popen([*world.enter(namespace), sys.executable, "-m", module], stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    print(told, file=process.stdin, flush=True)
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("the attacker did not start")
    return process


class Sybil(asyncio.DatagramProtocol):
    """A node that answers in good form, names its friends and its victims, and says ok to whatever is stored.

    Args:
        node_id: 20 bytes.
        friends: other Sybils.
        named: addresses that it gives to who looks for peers.
        kept: an item that it gives to who looks for any.
    """

    def __init__(
        self, node_id: bytes, friends: Sequence[Contact], named: Sequence[Address], kept: MutableItem | None = None
    ) -> None:
        self._id = node_id
        self._friends = friends
        self._named = named
        self._kept = kept
        self.asked = 0
        self.known: set[Address] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        with suppress(CodecError):
            match krpc.decode(data):
                case krpc.Query() as query:
                    values = self._answer(query.method)
                    self._transport.sendto(krpc.encode_response(query.transaction, self._id, values, addr), addr)
                case krpc.Response() as response:
                    self.known.update(contact.address for contact in krpc.nodes_of(response.values, 4))

    def meet(self) -> None:
        """Make itself known to every node it knows of."""
        for address in list(self.known):
            query = krpc.encode_query(random.randbytes(4), b"find_node", self._id, {b"target": self._id})
            self._transport.sendto(query, address)

    def _answer(self, method: bytes) -> dict[bytes, Value]:
        if method not in (b"find_node", b"get_peers", b"get"):
            return {}
        values: dict[bytes, Value] = {b"nodes": krpc.pack_nodes(random.sample(self._friends, 8))}
        if method != b"find_node":
            values[b"token"] = b"token"
        if method == b"get_peers":
            named = random.sample(self._named, min(_NAMED, len(self._named)))
            values[b"values"] = [pack_compact(address) for address in named]
        if method == b"get" and self._kept is not None:
            item = self._kept
            values |= {b"k": item.public_key, b"seq": item.seq, b"sig": item.signature, b"v": item.value}
        self.asked += method != b"find_node"
        return values


async def _attack(attack: Attack) -> None:
    namespace = Namespace.ours(attack.target, OwnerKey(decode_key(attack.public_key, "the attacker's copy")))
    info, _ = PatchInfo.from_postcard(bytes.fromhex(attack.info))
    bootstrap = parse_addresses(attack.bootstrap)
    goals = [namespace_hash(namespace), release_hash(namespace, info)] * _EACH
    *hosts, writer = attack.hosts()
    friends = [Contact(goal[:-2] + random.randbytes(2), (host, _PORT)) for goal, host in zip(goals, hosts, strict=True)]
    sybils = []
    for friend in friends:
        _, sybil = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda friend=friend: Sybil(friend.id, friends, attack.addresses),  # type: ignore[misc]
            local_addr=friend.address,
        )
        sybil.known.update(address for address in bootstrap if ":" not in address[0])
        sybils.append(sybil)
    async with UdpDht((writer, _PORT), bootstrap=bootstrap) as dht, asyncio.TaskGroup() as tasks:
        everlasting = [
            tasks.create_task(keep_meeting(sybils)),
            tasks.create_task(_forge_records(dht, namespace, info, attack)),
        ]
        await dht.joined()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in everlasting:
            task.cancel()


async def keep_meeting(sybils: Sequence[Sybil], every: float = _MEET_EVERY) -> None:
    """Have them make themselves known, again and again: twice soon, then each in so many seconds, one after another."""
    for pause in itertools.chain((0.0, _MEET_EVERY), itertools.repeat(every)):
        for sybil in sybils:
            sybil.meet()
            await asyncio.sleep(pause / len(sybils))


async def _forge_records(dht: UdpDht, namespace: Namespace, info: PatchInfo, attack: Attack) -> None:
    """Records of the true release, whose holders are said to be the victims; some room is left to others."""
    forgers = [KeyPair.generate() for _ in range(_FORGERS)]
    while True:
        slot = Slot(namespace, int(time.time() // 60))
        lookup = await dht.get_mutable(slot.key_pair.public, slot.salt)
        for forger in forgers:
            record = Record.make(slot, forger, encode_content(info, random.sample(attack.addresses, 8)))
            item = MutableItem.sign(slot.key_pair, slot.salt, info.version.seq(), encrypt_record(slot, record))
            some = tuple(random.sample(lookup.nodes, min(_NODES_EACH, len(lookup.nodes))))
            await dht.put_mutable(item, MutableLookup(lookup.target, lookup.items, some, lookup.time))
        await asyncio.sleep(_RECORDS_EVERY)


if __name__ == "__main__":
    asyncio.run(_attack(Attack(**json.loads(sys.stdin.readline()))))
