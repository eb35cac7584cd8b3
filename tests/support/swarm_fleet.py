"""Devices that fetch one release from a seed and from each other, on virtual time and over real QUIC connections.

    async def body() -> None:
        async with SwarmFleet(folder, size=4_000_000) as fleet:
            await fleet.seed(("20.0.0.1", 6881), rate=1_250_000)
            for number in range(20):
                await fleet.device((f"30.{number}.0.1", 6881))
            seconds = await fleet.all_have_it()

    run_alone(body())

Exchange, meetings, updater, budgets and upload limits are the product's own; the network is a ``Switch``, who knows
whom is told by the fleet, and what is staged is a file that has the release's bytes. A device at 192.168.x.y is behind
a router, which the outside sees as 40.x.0.1, and whose traffic is counted.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.opened import stated_opened_root
from pypatcher.artifact.patch import make_info
from pypatcher.artifact.tree import build_tree
from pypatcher.bencode import Value
from pypatcher.budgets import UploadLimiter
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.sources import Found
from pypatcher.discovery.sources.slots import RECORDS
from pypatcher.errors import ContentMismatchError, NotNewerError, PeerError
from pypatcher.nat.ways import EveryWay
from pypatcher.settings import Settings
from pypatcher.transfer import StallRule
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.gate import OfferGate
from pypatcher.transfer.v1.meetings import MeetingsV1
from pypatcher.update.outfile import Download
from pypatcher.update.updater import Updater
from pypatcher.update.wanted import PastDownloads, Wanted
from pypatcher.version import Version
from tests.support.manifests import OWNER, word_of
from tests.support.node_fakes import EventLog
from tests.support.switch import Switch
from tests.support.transport import local_release
from tests.support.v1_nodes import Speaker

__all__ = ["SwarmDevice", "SwarmFleet"]

_KNOWN = 8
"""Others that a device meets at first."""


class _Routers(Switch):
    """A switch with routers on it.

    Attributes:
        crossed: bytes of datagrams from outside that each router let in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crossed: Counter[str] = Counter()

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        if _is_inside(source) and not _is_inside(destination):
            _, _, home, number = source[0].split(".")
            source = f"40.{home}.0.1", 10_000 + int(number)
        if destination[0].startswith("40."):
            home = destination[0].split(".")[1]
            self.crossed[home] += len(data)
            destination = f"192.168.{home}.{destination[1] - 10_000}", 6881
        super().carry(data, source, destination)


def _is_inside(address: Address) -> bool:
    return address[0].startswith("192.168.")


class SwarmFleet:
    """One release, who holds it, and who wants it.

    Args:
        size: bytes of the release, new from the first to the last unless there is an ``old`` file.
        new: its bytes, if they are to be others; the owner's word states the root of its opened content as well.
    """

    def __init__(
        self,
        folder: Path,
        size: int = 2_000_000,
        *,
        old: bytes | None = None,
        new: bytes | None = None,
        seed: int = 1,
    ) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.data = self.rng.randbytes(size) if new is None else new
        size = len(self.data)
        self.path = folder / "new"
        self.path.write_bytes(self.data)
        self.info = make_info(Version(2, 0, 0), bytes(32), size - 176, OWNER)
        with self.path.open("rb") as file:
            self.tree = build_tree(file.fileno(), size)
            self.opened_root = None if new is None else stated_opened_root(file.fileno())
        self.old = old
        self.network = _Routers()
        self.devices: list[SwarmDevice] = []
        self.seeds: list[Speaker] = []
        self.told: dict[Address, Candidate] = {}
        """Holders that every device hears of."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def word(self) -> Manifest:
        """The owner's: it states the tree."""
        tree = bytes([self.tree.parameters.number]) + self.tree.root
        opened: dict[bytes, Value] = {} if self.opened_root is None else {b"otree": self.opened_root}
        return word_of({b"i": self.info.to_postcard(), b"tree": tree} | opened, "2.0.0")

    async def __aenter__(self) -> Self:
        await self.network.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.network.__aexit__()

    async def speaker(self, address: Address, limiter: UploadLimiter | None = None) -> Speaker:
        """A node that knows the owner's word."""
        clock = asyncio.get_running_loop().time
        found = Speaker(await self.network.endpoint(address), limiter or UploadLimiter(clock=clock), StallRule())
        found.word.hear_at_once(self.word.encode())
        return found

    async def seed(self, address: Address, rate: int = 1 << 20, **limits: Any) -> Speaker:
        """A node that holds the release, of which every device hears."""
        seed = await self.speaker(address, UploadLimiter(rate, clock=asyncio.get_running_loop().time, **limits))
        seed.hold(local_release(self.info, self.path))
        self.seeds.append(seed)
        self.tell(seed.endpoint.node_id, address)
        return seed

    def tell(self, node_id: bytes, address: Address) -> None:
        """All devices hear that somebody there holds it."""
        self.told[address] = Candidate(self.info, node_id, address, "a test", speaks_v1=True)

    async def device(self, address: Address, **options: Any) -> SwarmDevice:
        """One that wants the release, and meets some that were there before it."""
        speaker = await self.speaker(address)
        device = SwarmDevice(self, speaker, address, **options)
        near = [each.address for each in self.devices if _is_inside(each.address) == _is_inside(address)]
        device.knows = near if _is_inside(address) else self.rng.sample(near, min(_KNOWN, len(near)))
        self.devices.append(device)
        return device

    async def all_have_it(self, seconds: float = 3600.0) -> list[float]:
        """Let all begin at once; after how many seconds each device had it."""
        begin = asyncio.get_running_loop().time()
        self._tasks += [asyncio.create_task(device.run()) for device in self.devices]
        async with asyncio.timeout(seconds):
            for device in self.devices:
                await device.done.wait()
        return sorted(device.done_at - begin for device in self.devices)


class SwarmDevice:
    """One device: an updater that takes a release into a file, and gives it on.

    Attributes:
        came: bytes that peers sent to it.
        hears_nobody: it knows but those that it meets.
        gave: how many of them each sent.
        wasted: how many were of no use.
    """

    staged_path = Path("staged")

    def __init__(self, fleet: SwarmFleet, speaker: Speaker, address: Address, *, settings: Settings | None = None):
        self.fleet, self.speaker, self.address = fleet, speaker, address
        self.knows: Sequence[Address] = ()
        self.hears_nobody = False
        self.done, self.done_at = asyncio.Event(), 0.0
        self.events = EventLog()
        self.came = self.wasted = 0
        self.gave: Counter[Address] = Counter()
        self.census = speaker.census
        self.ways = EveryWay(stranger_jitter=0.0)
        self.moves = 0
        self._folder = fleet.folder / f"device-{address[0]}-{address[1]}"
        self._folder.mkdir()
        self.past = PastDownloads()
        clock, rng = asyncio.get_running_loop().time, random.Random(address[0])
        wanted = Wanted(self, self.past, self.events)
        self.updater = Updater(self, self, wanted, settings or Settings(), self.events, rng=rng, clock=clock)
        self._meetings = MeetingsV1(speaker.exchange, self.ways, self.updater, self, gate=OfferGate(), rng=rng)

    @property
    def shelf(self) -> Any:
        return self.speaker.shelf

    async def run(self) -> None:
        """Look for the release until cancelled."""
        if not self.hears_nobody:
            self.hear(Found(RECORDS, candidates=list(self.fleet.told.values())))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.updater.run())
            tasks.create_task(self._meetings.gather())
            for address in self.knows:
                tasks.create_task(self._meetings.meet(address))

    # What an updater asks of the other nodes (PeersView).

    def hear(self, found: Found) -> None:
        self.census.hear(found, ())

    def want(self, releases: Collection[PatchInfo] | None) -> None: ...

    def may_help(self, candidate: Candidate) -> bool:
        exchange = self.speaker.exchange
        return exchange.swarms.is_fetching(candidate.info) and exchange.suits(candidate)

    def is_connected(self, address: Address) -> bool:
        return self.speaker.exchange.is_connected(address)

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        heard, gave = sink.received, sink.peer_ended

        def received(count: int, total: int, came: int | None = None) -> None:
            self.came = count if came is None else came
            heard(count, total, came)

        def peer_ended(address: Address, came: int, error: PeerError | None, wasted: int) -> None:
            self.gave[address] += came
            self.wasted += wasted
            gave(address, came, error, wasted)

        sink.received, sink.peer_ended = received, peer_ended  # type: ignore[method-assign]
        return await self.speaker.exchange.fetch(candidate, sink)

    def make_place(self, info: PatchInfo) -> None: ...

    async def help(self, candidate: Candidate) -> None:
        await self.speaker.exchange.help(candidate)

    # Where it goes (Destination).

    def preflight(self, size: int, *, allow_volatile: bool) -> None: ...

    def check_wanted(self, version: Version, sha512: bytes = b"") -> None:
        if self.done.is_set():
            raise NotNewerError("it is here")

    def new_partial(self, info: PatchInfo | None = None) -> Any:
        return _Into(self)

    def stage(self, partial: Any, expect: PatchInfo, said: Callable[[], object]) -> None:
        if os.pread(partial.fd, expect.file_size + 1, 0) != self.fleet.data:
            raise ContentMismatchError("these are other bytes")
        partial.kept = True
        staged = self._folder / partial.name
        self.shelf.put([local_release(expect, staged)])
        self.done_at = asyncio.get_running_loop().time()
        said()
        self.done.set()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class _Into(Download):
    """A download of a device's."""

    def __init__(self, device: SwarmDevice) -> None:
        old = device._folder / "old"
        if device.fleet.old is not None and not old.exists():
            old.write_bytes(device.fleet.old)
        self.directory = os.open(device._folder, os.O_RDONLY)
        super().__init__(device._folder / "out", self.directory, [old] if old.exists() else [])

    def discard(self) -> None:
        super().discard()
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1
