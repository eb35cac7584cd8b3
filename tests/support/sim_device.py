"""One simulated device: the real node of the DHT, sources, knocks, meetings, owner's word, policy and updater.

Modelled are the program on disk, which is a release without bytes that takes over as soon as it is staged, and what
``sim_network`` and ``sim_connections`` model. What a device remembers over a restart, it remembers here: the owner's
word, DHT nodes, peers that gave it something.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.budgets import UploadLimiter
from pypatcher.dht import Dht
from pypatcher.errors import NotNewerError
from pypatcher.events import Event, ReleaseFound
from pypatcher.install import LocalRelease
from pypatcher.install.words import Standing
from pypatcher.keys import KeyPair
from pypatcher.node.network import Network
from pypatcher.node.presence import NetworkPresence
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.shelf import Shelf
from pypatcher.update.policy import Place
from pypatcher.update.rule import ANYTHING, DeviceRule, NodeRule
from pypatcher.update.updater import Updater
from pypatcher.update.wanted import PastDownloads, Wanted
from pypatcher.update.word import OwnersWord
from pypatcher.version import Version
from tests.support.manifests import TARGET
from tests.support.sim_connections import SimEndpoint, SimExchange
from tests.support.sim_day import has_run_for_a_day, is_known_everywhere, settings_of_a_day
from tests.support.v1_nodes import MemoryWords

if TYPE_CHECKING:
    from tests.support.sim_fleet import SimFleet

__all__ = ["SimDevice"]

_REMEMBERED = 200


class _Program:
    """What ``Installation`` is for a node."""

    def __init__(self, device: SimDevice) -> None:
        self._device = device
        self.words = self
        self.staged_path = Path("/sim/app.staged")

    def standing(self) -> Standing:
        info = self._device.program
        return Standing(info, info.version, None, frozenset())

    def arrange(self, name: str, choose: Callable[[bytes | None], DeviceRule]) -> None:
        """Nothing waits to be activated."""

    def preflight(self, size: int, *, allow_volatile: bool) -> None:
        """There is room."""

    def check_wanted(self, version: Version, sha512: bytes = b"") -> None:
        if version <= self._device.program.version:
            raise NotNewerError(f"{version} is not newer")

    def new_partial(self, info: PatchInfo | None = None) -> _Program:
        return self

    def leave(self) -> None:
        """Nothing of a download is on a disk."""

    def cut(self, size: int) -> None:
        """Nothing is behind a file that is nowhere."""

    def write(self, data: bytes) -> None:
        """A download's bytes go nowhere."""

    def discard(self) -> None:
        """Nothing is left of it."""

    def stage(self, partial: object, expect: PatchInfo, say: Callable[[], object]) -> None:
        self._device.program = expect
        say()


class _Past(PastDownloads):
    def __init__(self, device: SimDevice) -> None:
        super().__init__()
        self._device = device

    async def staged(self, info: PatchInfo) -> None:
        self._device.has.setdefault(info.version, time.monotonic())
        self._device.serve()


@dataclass(eq=False)
class SimDevice:
    """One device, on from ``run`` until that is cancelled.

    Attributes:
        program: what it runs.
        knows: when it first heard of each version, by the owner's word or by who holds it.
        has: when it staged each.
        heard: when it first heard each word, by its seq.
    """

    fleet: SimFleet
    number: int
    address: Address
    router: str
    program: PatchInfo
    is_on: bool = False
    knows: dict[Version, float] = field(default_factory=dict)
    has: dict[Version, float] = field(default_factory=dict)
    heard: dict[int, float] = field(default_factory=dict)
    words: MemoryWords = field(default_factory=MemoryWords)
    word: OwnersWord | None = None
    _past: PastDownloads | None = None
    _presence: NetworkPresence | None = None
    _dht_nodes: Sequence[Address] = ()
    _starts: int = 0

    async def run(self) -> None:
        """Be a node; the first time one that has been on for a day."""
        fleet, host = self.fleet, self.fleet.network.host(self.address, self.router)
        self._starts += 1
        rng = random.Random(f"{fleet.plan.seed} {self.number} {self._starts}")
        node = fleet.new_node(host, rng)
        identity = KeyPair.from_seed(rng.randbytes(32))
        bound = self.address if self.router == "public" else _in_a_home(self.number)
        endpoint = SimEndpoint(fleet.network, host, identity, bound)
        dht = Dht([node])
        if self._starts == 1:
            is_known_everywhere(node, fleet.acquaintances(node.node_id, rng), host.port_for, rng)
        await dht.start(self._dht_nodes)
        try:
            await self._be_a_node(Network(fleet.namespace, identity, cast("Any", endpoint), dht), rng)
        finally:
            self.is_on, self._presence = False, None
            self._dht_nodes = dht.nodes()[:_REMEMBERED]
            host.receive = None
            host.opened.clear()
            ending = endpoint.close()
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, dht.stop(), return_exceptions=True)

    def serve(self) -> None:
        """Give and announce what runs here."""
        if self._presence is not None:
            held = LocalRelease(Path("/sim/app"), self.program, b"")
            self._presence.serve([held], is_unchanged=lambda: True)

    async def _be_a_node(self, network: Network, rng: random.Random) -> None:
        fleet = self.fleet
        settings = settings_of_a_day(rng) if self._starts == 1 else fleet.settings
        self._past = past = self._past or _Past(self)
        program = cast("Any", _Program(self))
        rule: NodeRule | None = None
        if fleet.plan.hears_the_owner:
            device_id = self.number.to_bytes(16, "big")
            rule = NodeRule(program, past, fleet.owner, device_id=device_id, place=Place.BY_DRAW, is_required=False)
            self.word = rule.word = OwnersWord(fleet.owner, TARGET, self.words)
        shelf = Shelf(UploadLimiter(settings.upload), lambda info: rule is None or rule.policy.may_be_announced(info))
        exchanges = Exchanges(network.endpoint, fleet.namespace, shelf, word=self.word)
        exchanges.v1 = SimExchange(network.endpoint, fleet.namespace, shelf, exchanges.census, word=self.word)
        exchanges.v1.rate = fleet.plan.rate
        exchanges.spoken = (exchanges.v1, exchanges.v0)
        known = tuple(past.budget.good)
        self._presence = presence = NetworkPresence(network, settings, exchanges, self._emit, rng=rng, known=known)
        peers = presence.peers
        if fleet.plan.sources:
            peers._sources = [source for source in peers._sources if source.name in fleet.plan.sources]
        wanted = Wanted(program, past, self._emit, rule or ANYTHING)
        updater = Updater(peers, program, wanted, settings, self._emit, rng=rng)
        parts = {"updater": updater.run, "owner's word": self._obey}
        self.is_on = True
        self.serve()
        if self._starts == 1 and self.word is not None:
            own, names = network.own_addresses(), fleet.pointer_names()
            has_run_for_a_day(peers._sources, self.word, fleet.nearest, rng, own=own, pointer_names=names)
        async with presence.at_work(str(self.program.version), "now", parts, updater):
            await asyncio.Event().wait()

    async def _obey(self) -> None:
        """What ``Node`` does when the owner says another word."""
        while self.word is not None and self._presence is not None:
            news = self.word.news.next
            if self.word.current is not None:
                self.knows.setdefault(self.word.current.terms.info.version, time.monotonic())
                self.heard.setdefault(self.word.current.seq, time.monotonic())
            self.serve()
            self._presence.peers.census.news.tell()
            await news.wait()

    def _emit(self, event: Event) -> None:
        if isinstance(event, ReleaseFound):
            self.knows.setdefault(Version.parse(event.version), time.monotonic())


def _in_a_home(number: int) -> Address:
    """Its address behind its router; many homes have the same ones."""
    return f"192.168.{number % 4}.{2 + number // 4 % 250}", 6881
