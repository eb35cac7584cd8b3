"""A fleet of devices on virtual time: a release is published, and it is told when everybody knows it and has it.

    def main() -> None:
        still_clock.stand_still()  # before anything of ours is imported
        from tests.support.sim_fleet import SimFleet, SimPlan
        from tests.support.sim_loop import run_simulated
        ...
        fleet = SimFleet(SimPlan(devices=300))
        await fleet.start()
        await fleet.live(900)
        await fleet.publish(Version(2, 0, 0))
        await fleet.live(600)

Everything that decides is the product's own code (``sim_device``). The same plan gives the same run, to the last
packet, where PYTHONHASHSEED is the same. Hours of 10,000 devices pass in minutes.
"""

from __future__ import annotations

import asyncio
import bisect
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo, make_info
from pypatcher.artifact.manifest import POSITIONS, ManifestFile, pointer_salt
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.terms import Hold
from pypatcher.dht import Contact, DhtNode
from pypatcher.dht.nodeid import secure_id
from pypatcher.dht.server import _FAR_ALL
from pypatcher.discovery import Namespace
from pypatcher.discovery.namespace import namespace_hash, release_hash
from pypatcher.limits import RateLimiter
from pypatcher.mutable_item import MAX_SEQ, MutableItem, mutable_target
from pypatcher.node.publish import publish_word
from pypatcher.settings import Settings
from pypatcher.version import Version
from tests.support.manifests import OWNER, OWNER_KEY, TARGET
from tests.support.sim_attack import JunkWriter, Says, besiege
from tests.support.sim_device import SimDevice
from tests.support.sim_network import PORT, ROUTERS, SimHost, SimNetwork

__all__ = ["FIRST", "SimFleet", "SimPlan"]

FIRST = Version(1, 0, 0)
"""What every device runs at first."""
_NEXT = Version(2, 0, 0)
_NEAREST, _ACQUAINTANCES = 60, 200
_STEP = 10.0
_AT_FIRST, _OFF = (0.0, 10.0), (5.0, 60.0)
_KEPT = 500
"""Peers that a node keeps under one name."""
_ANSWER = 420
"""Bytes of an answer about the pointer, headers included, on the whole: what was measured."""


@dataclass(frozen=True, slots=True)
class SimPlan:
    """What is simulated.

    Attributes:
        devices: how many, all of one fleet.
        others: public nodes of the DHT that are not of the fleet.
        seed: of every choice.
        latency: seconds one way, between these.
        loss: share of the packets that are lost.
        routers: how many devices are public, behind an easy and behind a hard router, in proportion.
        churn: share of the devices that restart within an hour.
        sybils: ids of an attacker, in equal parts beside the pointer's four names and those of the swarms.
        says: what they keep at the pointer's names: "nothing", "old" (the word before), "junk" (the highest seq).
        junk: whether somebody fills every minute slot with junk of the highest seq.
        sources: names of the sources of addresses that devices use; none for all of them.
        size: bytes of a release.
        rate: bytes a second that a holder uploads in all.
        like: who keeps the pointer gives these devices what would be their part of its answers in so large a fleet;
            0: whatever they ask.
    """

    devices: int
    others: int = 200
    seed: int = 1
    latency: tuple[float, float] = (0.02, 0.15)
    loss: float = 0.01
    routers: tuple[float, float, float] = (0.1, 0.7, 0.2)
    churn: float = 0.0
    sybils: int = 0
    says: str = "nothing"
    junk: bool = False
    sources: tuple[str, ...] = ()
    size: int = 1_000_000
    rate: int = 1 << 20
    like: int = 0

    @property
    def hears_the_owner(self) -> bool:
        """Whether there are manifests at all: not where slots alone are used, as by the Rust program."""
        return not self.sources or "pointer" in self.sources


class SimFleet:
    """The whole: other nodes of the DHT, devices, an owner, an attacker."""

    def __init__(self, plan: SimPlan) -> None:
        self.plan = plan
        self.network = SimNetwork(plan.seed, plan.latency, plan.loss)
        self.owner = OWNER_KEY
        self.namespace = Namespace.ours(TARGET, OWNER_KEY)
        # A name, for a device that has no entry points has no DHT by its owner's choice; nodes are told whom to ask.
        self.settings = Settings(bootstrap=(("entry.invalid", PORT),), port_mapping=False, lan=False)
        self.entries: list[Address] = []
        self.devices: list[SimDevice] = []
        self.keepers: dict[SimHost, int] = {}
        self.kept_bytes: dict[SimHost, int] = {}
        self.unanswered = 0
        self._rng = random.Random(plan.seed)
        self._contacts: list[Contact] = []
        self._by_id: list[Contact] = []
        self._releases: dict[Version, PatchInfo] = {}
        self._words: dict[Version, ManifestFile] = {}
        self._running: dict[SimDevice, asyncio.Task[None]] = {}
        self._nodes: dict[Address, DhtNode] = {}
        self._nearest: dict[bytes, tuple[Contact, ...]] = {}
        self._junk: asyncio.Task[None] | None = None

    def release(self, version: Version) -> PatchInfo:
        """Of that version, signed by the fleet's owner."""
        if version not in self._releases:
            self._releases[version] = make_info(version, bytes(range(32)), self.plan.size, OWNER)
        return self._releases[version]

    def word(self, version: Version) -> ManifestFile:
        """The owner's word about it: all may take it."""
        if version not in self._words:
            self._words[version] = first_word(OWNER, self.release(version), [TARGET], Change())
        return self._words[version]

    def new_node(self, host: SimHost, rng: random.Random) -> DhtNode:
        """A node of the DHT at that host, not started."""
        send, address = self.network.send, host.address
        node = DhtNode(
            lambda data, destination: send(host, data, destination),
            clock=time.monotonic,
            random=rng,
            secret=self.namespace.topic_hash,
        )
        node.table.rebase(secure_id(address[0], random.Random(f"{self.plan.seed} id {address}")))
        host.receive = node.datagram_received
        return node

    def acquaintances(self, node_id: bytes, rng: random.Random) -> Sequence[Contact]:
        """Whom a node knows after a day: those nearest to it, and some of everywhere."""
        place = bisect.bisect(self._by_id, node_id, key=lambda contact: contact.id)
        near = self._by_id[max(0, place - _NEAREST // 2) : place + _NEAREST // 2]
        far = rng.sample(self._contacts, min(_ACQUAINTANCES, len(self._contacts)))
        return [*near, *far]

    async def start(self) -> None:
        """Everybody is there; devices go on in ``live``. The word about what they run is known and published."""
        plan = self.plan
        for number in range(plan.others):
            self._add_other(number)
        self.entries = [contact.address for contact in self._contacts]
        if plan.sybils:
            names = [*self.pointer_names(), namespace_hash(self.namespace)]
            names += [release_hash(self.namespace, self.release(version)) for version in (FIRST, _NEXT)]
            self._contacts += besiege(self.network, names, plan.sybils, self._says(), self._rng)
        self._by_id = sorted(self._contacts, key=lambda contact: contact.id)
        for node in self._nodes.values():
            # They answer, and take into their tables who asks; what they ask themselves is not of interest.
            node.introduce(self.acquaintances(node.node_id, self._rng))
        if plan.hears_the_owner:
            await self._write(FIRST)
        for number in range(plan.devices):
            router = self._rng.choices(ROUTERS, plan.routers)[0]
            device = SimDevice(self, number, _address(plan.others + number), router, self.release(FIRST))
            word = self.word(FIRST).for_target(TARGET)
            if plan.hears_the_owner and word is not None:
                device.words.keep(word)
            self.devices.append(device)
        if plan.hears_the_owner:
            self._announce_all()
        if plan.junk:
            junk = JunkWriter(self._nodes[self.entries[0]], self.namespace, self._rng)
            self._junk = asyncio.create_task(junk.run())

    async def live(self, seconds: float) -> None:
        """Let time pass: devices that are off go on, some of those that are on restart."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            for device in self.devices:
                if device not in self._running:
                    pause = self._rng.uniform(*(_OFF if device.has else _AT_FIRST))
                    device.has.setdefault(FIRST, now)
                    self._running[device] = asyncio.create_task(_switch_on(device, pause))
            await asyncio.sleep(min(_STEP, end - now))
            restarting = [each for each in self._running if self._rng.random() < self.plan.churn * _STEP / 3600.0]
            for device in restarting:
                task = self._running.pop(device)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            for task in self._running.values():
                if task.done():
                    task.result()

    async def publish(self, version: Version) -> None:
        """The owner starts a release on one device that is public, and has its word published."""
        first = self._rng.choice([each for each in self.devices if each.is_on and each.router == "public"])
        first.program = self.release(version)
        first.has[version] = first.knows[version] = time.monotonic()
        word = self.word(version).for_target(TARGET)
        if first.word is not None and word is not None:
            first.word.hear_at_once(word.encode())
        first.serve()
        if self.plan.hears_the_owner:
            await self._write(version)

    async def brake(self, version: Version) -> int:
        """The owner has a hold of that release published from his desk; returns its seq."""
        held = next_word(self.word(version), OWNER, Change(hold=Hold.HELD), made=0)
        await publish_word(self._nodes[self.entries[-1]], held)
        return held.seq

    def pointer_names(self) -> list[bytes]:
        """The pointer's four targets."""
        return [mutable_target(OWNER_KEY, pointer_salt(TARGET, position)) for position in range(POSITIONS)]

    def watch_keepers(self) -> list[SimHost]:
        """Count from now on what those are asked about the pointer that should keep it: 20 honest nodes a position."""
        names = self.pointer_names()
        for name in names:
            for contact in self.nearest(name):
                self._watch(self.network.host(contact.address), names)
        return list(self.keepers)

    def nearest(self, name: bytes) -> tuple[Contact, ...]:
        """The 20 honest nodes nearest to a name."""
        if name not in self._nearest:
            target = int.from_bytes(name, "big")
            honest = (Contact(node.node_id, address) for address, node in self._nodes.items())
            near = sorted(honest, key=lambda each: int.from_bytes(each.id, "big") ^ target)
            self._nearest[name] = tuple(near[:20])
        return self._nearest[name]

    async def stop(self) -> None:
        """Everything off."""
        tasks = [*self._running.values(), *([self._junk] if self._junk is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in self._nodes.values():
            await node.stop()

    def times(self, what: Callable[[SimDevice], dict[Version, float]], version: Version, since: float) -> list[float]:
        """Seconds from ``since`` until each device that came to it knew or had a release, in order."""
        return sorted(what(device)[version] - since for device in self.devices if version in what(device))

    def _add_other(self, number: int) -> None:
        host = self.network.host(_address(number))
        node = self.new_node(host, random.Random(f"{self.plan.seed} other {number}"))
        self._nodes[host.address] = node
        self._contacts.append(Contact(node.node_id, host.address))

    def _announce_all(self) -> None:
        """Those who keep the swarms know the fleet, as far as they keep so many."""
        for name in (namespace_hash(self.namespace), release_hash(self.namespace, self.release(FIRST))):
            for contact in self.nearest(name):
                peers = self._nodes[contact.address].server.peers
                for device in self._rng.sample(self.devices, min(_KEPT, len(self.devices))):
                    host = self.network.host(device.address, device.router)
                    peers.add(name, host.port_for(contact.address), time.monotonic())

    async def _write(self, version: Version) -> None:
        """Publish the word from the owner's desk, which is a node as any other."""
        await publish_word(self._nodes[self.entries[-1]], self.word(version))

    def _says(self) -> Says:
        positions = {name: position for position, name in enumerate(self.pointer_names())}
        old = self.word(FIRST).for_target(TARGET)

        def says(target: bytes) -> MutableItem | None:
            position = positions.get(target)
            if position is None or self.plan.says == "nothing":
                return None
            if self.plan.says == "old":
                return None if old is None else old.item(position)
            return MutableItem(OWNER_KEY, pointer_salt(TARGET, position), MAX_SEQ, b"junk", bytes(64))

        return says

    def _watch(self, host: SimHost, names: Collection[bytes]) -> None:
        receive = host.receive
        if host in self.keepers or receive is None:
            return
        self.keepers[host] = 0
        share = self.plan.devices / (self.plan.like or self.plan.devices)
        rate, burst = (limit * share for limit in _FAR_ALL)
        answers = RateLimiter(rate, max(burst, _ANSWER), capacity=1)

        def received(data: bytes, source: Address) -> None:
            sent = host.sent
            if not (b"1:q3:get" in data and any(name in data for name in names)):
                receive(data, source)
                return
            self.keepers[host] += 1
            if not self.plan.like or answers.allow(None, time.monotonic(), _ANSWER):
                receive(data, source)
            self.unanswered += host.sent == sent
            self.kept_bytes[host] = self.kept_bytes.get(host, 0) + host.sent - sent

        host.receive = received


async def _switch_on(device: SimDevice, pause: float) -> None:
    await asyncio.sleep(pause)
    await device.run()


def _address(number: int) -> Address:
    """Public, each in a /16 of its own as far as there are enough."""
    return f"{11 + number % 100}.{number // 100 % 250}.{number // 25_000}.1", PORT
