"""What a look at the owner's word costs a device: bytes both ways, UDP payload, on a DHT of 200 nodes on virtual time.

    python -m bench.pointer

A filtered look asks some of the storers that are remembered, which say "the same seq"; a lookup starts anew. Slots and
swarm are what a look cost without the pointer. Not here: how often each is done (``discovery.sources``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from pypatcher.addresses import Address
from pypatcher.artifact.manifest import POSITIONS
from pypatcher.discovery.namespace import namespace_hash
from pypatcher.discovery.slots import Slot
from pypatcher.discovery.sources.pointer import Read
from tests.support.manifests import word
from tests.support.node_fakes import run_alone
from tests.support.pointer_lab import PointerDevice, PointerLab
from tests.support.v1_nodes import NAMESPACE

WORD = word("2.0.0", share=2500, note=b"a note of usual length for people")
ROUNDS = 20


async def measure() -> None:
    """Print bytes a look."""
    async with PointerLab(200) as lab:
        owner, device = lab.device(WORD), lab.device(WORD)
        for position in range(POSITIONS):
            item = WORD.item(position)
            assert item is not None
            await owner.node.put_mutable(item)
        await device.pointer.read_all()
        taken: Counter[Address] = Counter()
        address = lab.net.address_of(device.node)
        deliver = lab.net.hosts[address]

        def count(data: bytes, source: Address) -> None:
            taken[address] += len(data)
            deliver(data, source)

        lab.net.hosts[address] = count
        for name, look in looks(device):
            sent, received = lab.net.sent_bytes[address], taken[address]
            for number in range(ROUNDS):
                await look(number)
            sent, received = lab.net.sent_bytes[address] - sent, taken[address] - received
            print(f"{name:<34} {sent / ROUNDS / 1000:6.1f} kB sent {received / ROUNDS / 1000:6.1f} kB received")


def looks(device: PointerDevice) -> list[tuple[str, Callable[[int], Awaitable[object]]]]:
    """What a device may do at a look."""
    read, node = device.pointer.read, device.node
    slots = [Slot(NAMESPACE, 29_400_000 + number) for number in range(ROUNDS)]
    return [
        ("pointer, storers, filtered", lambda n: read(Read(n % POSITIONS, is_whole=False, is_filtered=True))),
        ("pointer, storers, whole items", lambda n: read(Read(n % POSITIONS, is_whole=False, is_filtered=False))),
        ("pointer, lookup, filtered", lambda n: read(Read(n % POSITIONS, is_whole=True, is_filtered=True))),
        ("pointer, lookup, whole items", lambda n: read(Read(n % POSITIONS, is_whole=True, is_filtered=False))),
        ("one slot", lambda n: node.get_mutable(slots[n].key_pair.public, slots[n].salt)),
        ("the swarm", lambda _: node.find_peers(namespace_hash(NAMESPACE))),
    ]


if __name__ == "__main__":
    run_alone(measure())
