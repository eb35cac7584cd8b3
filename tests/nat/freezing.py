"""An attacker who wants a fleet to stay on its old release: ids beside its static names, junk in all its slots.

Run in a namespace of its own as ``python -m tests.nat.freezing`` with a ``Freeze`` as JSON on its input's first line;
ends with its input, and says how often his nodes were asked and nodes took his junk. Beside each name of the pointer
and of the two swarms he has 24 ids on 12 hosts in 3 /24s, in a /16 of its own: they give junk of the highest seq, or
nobody, and name each other. Into the minute slots that anybody reads he writes junk of the highest seq, every second.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from subprocess import Popen

from pypatcher.addresses import Address, parse_addresses
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import POSITIONS, pointer_salt
from pypatcher.dht import Contact, MutableItem, UdpDht
from pypatcher.discovery import Namespace, Slot, namespace_hash
from pypatcher.discovery.namespace import release_hash
from pypatcher.errors import PatcherError
from pypatcher.keys import OwnerKey, decode_key
from pypatcher.mutable_item import mutable_target
from tests.nat.lab import Lab
from tests.nat.sybils import Sybil, keep_meeting, start_attacker

__all__ = ["Freeze", "start_freeze"]

_HIGHEST = (1 << 53) - 1
_JUNK = b"junk" * 200
_HOSTS, _PER_HOST, _NETWORKS = 12, 2, 3
_NAMES = POSITIONS + 2
_PORT = 6881
_EVERY, _MEET_EVERY = 1.0, 60.0
_AROUND = (-1, 0, 1)
"""Minutes, seen from now, of the slots that are junked."""


@dataclass(frozen=True)
class Freeze:
    """Whose fleet is to be frozen.

    Attributes:
        public_key: the fleet's owner, as text.
        target: of the fleet's programs.
        info: the release that shall not arrive, in postcard, hex.
        bootstrap: entry points of the DHT.
        network: 22.N.0.0/16 and the next five are the attacker's.
    """

    public_key: str
    target: str
    info: str
    bootstrap: str
    network: int

    @property
    def networks(self) -> list[str]:
        """One for each name."""
        return [f"22.{self.network + number}" for number in range(_NAMES)]

    def hosts(self, number: int) -> list[str]:
        """Those beside a name."""
        return [f"{self.networks[number]}.{host % _NETWORKS}.{1 + host // _NETWORKS}" for host in range(_HOSTS)]


def start_freeze(world: Lab, attack: Freeze) -> Popen[str]:
    """Begin; it ends with its input or the world."""
    hosts = [host for number in range(_NAMES) for host in attack.hosts(number)]
    return start_attacker(world, "tests.nat.freezing", json.dumps(asdict(attack)), attack.networks, hosts)


async def _freeze(attack: Freeze) -> None:
    owner = OwnerKey(decode_key(attack.public_key, "the attacker's copy"))
    namespace = Namespace.ours(attack.target, owner)
    info, _ = PatchInfo.from_postcard(bytes.fromhex(attack.info))
    bootstrap = parse_addresses(attack.bootstrap)
    salts = [pointer_salt(attack.target, position) for position in range(POSITIONS)]
    kept = [MutableItem(owner, salt, _HIGHEST, _JUNK, bytes(64)) for salt in salts]
    names = [mutable_target(owner, salt) for salt in salts] + [namespace_hash(namespace), release_hash(namespace, info)]
    sybils: list[Sybil] = []
    for number, name in enumerate(names):
        addresses = [(host, _PORT + port) for host in attack.hosts(number) for port in range(_PER_HOST)]
        friends = [Contact(name[:18] + random.randbytes(2), address) for address in addresses]
        sybils += [await _open_sybil(friend, friends, kept[number : number + 1]) for friend in friends]
    for sybil in sybils:
        sybil.known.update(address for address in bootstrap if ":" not in address[0])
    async with UdpDht((attack.hosts(0)[0], _PORT - 1), bootstrap=bootstrap) as dht, asyncio.TaskGroup() as tasks:
        await dht.joined()
        filled = [await _fill_slots(dht, namespace)]
        filling = tasks.create_task(_keep_filling(dht, namespace, filled))
        everlasting = [tasks.create_task(keep_meeting(sybils, _MEET_EVERY)), filling]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in everlasting:
            task.cancel()
    print(sum(sybil.asked for sybil in sybils), sum(filled), flush=True)


async def _open_sybil(friend: Contact, friends: list[Contact], kept: list[MutableItem]) -> Sybil:
    address: Address = friend.address
    _, sybil = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Sybil(friend.id, friends, (), *kept), local_addr=address
    )
    return sybil


async def _keep_filling(dht: UdpDht, namespace: Namespace, filled: list[int]) -> None:
    while True:
        await asyncio.sleep(_EVERY)
        filled.append(await _fill_slots(dht, namespace))


async def _fill_slots(dht: UdpDht, namespace: Namespace) -> int:
    """How many nodes took it, in all these slots together."""
    took = 0
    for away in _AROUND:
        slot = Slot(namespace, int(time.time() // 60) + away)
        junk = MutableItem.sign(slot.key_pair, slot.salt, _HIGHEST, _JUNK)
        try:
            took += await dht.put_mutable(junk)
        except PatcherError:
            continue
    return took


if __name__ == "__main__":
    asyncio.run(_freeze(Freeze(**json.loads(sys.stdin.readline()))))
