"""An updater on virtual time, peers that answer as told, and what became of it all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine
from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery import HeardRecord
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.census import Census
from pypatcher.discovery.sources import Found, Surroundings
from pypatcher.discovery.sources.slots import SlotSource
from pypatcher.errors import PeerError
from pypatcher.install.layout import Layout
from pypatcher.nat.ways import EveryWay, Reachability
from pypatcher.settings import Settings
from pypatcher.transfer.download import Fetch
from pypatcher.transfer.exchange import Sink
from pypatcher.update.updater import Updater
from pypatcher.update.wanted import PastDownloads, Wanted
from tests.support.discovery import node, release
from tests.support.node_fakes import EventLog, FakeInstallation

__all__ = ["NEW", "NEWER", "SIZE", "UpdaterWorld"]

NEW, NEWER = release("2.0.0"), release("3.0.0")
SIZE = NEW.file_size


class UpdaterWorld:
    """An updater, peers that answer as told, and what became of it all."""

    def __init__(self, folder: Path) -> None:
        self.installation = FakeInstallation(Layout(folder / "app"))
        self.heard = EventLog()
        self.past = WorldDownloads(self)
        self.peers: dict[str, Exception | None] = {}
        self.releases: dict[str, PatchInfo] = {}
        self.asked: list[tuple[float, str]] = []
        self.looks: list[float] = []
        self.staged: list[PatchInfo] = []
        self.budget = self.past.budget
        self.look_errors = 0
        self.sends = SIZE
        self.sends_before_errors = False
        self.takes = 0.01
        self.fetch: Fetch | None = None
        self.rates: dict[str, float] = {}
        self.ways: Reachability = EveryWay(stranger_jitter=60.0)
        self.seed = 1
        self.moves_while_asked = False
        self.helps: Callable[[Candidate, Sink], Awaitable[None]] | None = None
        self.sink: Sink | None = None
        self.census: Census | None = None
        self.view: WorldPeers | None = None

    def peer(self, host: str, answer: Exception | None = None, info: PatchInfo = NEW) -> None:
        """A peer that gives its release, or raises."""
        self.peers[host] = answer
        self.releases[host] = info

    async def run(
        self,
        seconds: float,
        settings: Settings | None = None,
        beside: Callable[[Updater], Coroutine[None, None, None]] | None = None,
    ) -> UpdaterWorld:
        """Run the updater for some virtual seconds, and ``beside`` next to it."""
        settings = settings or Settings()
        peers = WorldPeers(self, settings)
        rng = random.Random(self.seed)
        largest = settings.metered_size if settings.metered else None
        wanted = Wanted(self.installation, self.past, self.heard, largest=largest)
        updater = Updater(peers, self.installation, wanted, settings, self.heard, rng=rng, clock=peers.clock)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                if beside is not None:
                    tasks.create_task(beside(updater))
                tasks.create_task(peers.source.run(peers))
                await updater.run()
        assert self.installation.partials == 0
        return self

    def hosts(self) -> list[str]:
        return [host for _, host in self.asked]


class WorldDownloads(PastDownloads):
    """Tells the world what was staged."""

    def __init__(self, world: UpdaterWorld) -> None:
        super().__init__()
        self._world = world

    async def staged(self, info: PatchInfo) -> None:
        self._world.staged.append(info)


class WorldPeers:
    """The world's peers, heard of in slots that hold whatever the world says."""

    def __init__(self, world: UpdaterWorld, settings: Settings) -> None:
        self.clock = asyncio.get_running_loop().time
        self.census = world.census = Census(self.clock)
        self.ways = world.ways
        self.moves = 0
        self._world = world
        world.view = self
        around = Surroundings(self, settings, world.heard, random.Random(world.seed), self.clock)  # type: ignore[arg-type]
        self.source = SlotSource(self, around)  # type: ignore[arg-type]

    def hear(self, found: Found) -> None:
        self.census.hear(found, ())

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        self.source.want(releases)

    def heed(self, releases: Collection[PatchInfo] | None) -> None: ...

    async def joined(self) -> None: ...

    async def look(self, *, is_short: bool = False) -> list[HeardRecord]:
        self._world.looks.append(self.clock())
        return [HeardRecord(info, node(1).public, ((host, 1),), 7) for host, info in self._world.releases.items()]

    def may_help(self, candidate: Candidate) -> bool:
        return self._world.helps is not None and self._world.sink is not None

    def is_connected(self, address: Address) -> bool:
        return False

    def make_place(self, info: PatchInfo) -> None: ...

    async def help(self, candidate: Candidate) -> None:
        world = self._world
        assert world.helps is not None and world.sink is not None
        world.asked.append((self.clock(), candidate.address[0]))
        await world.helps(candidate, world.sink)

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        world, host = self._world, candidate.address[0]
        if world.fetch is not None:
            return await world.fetch(candidate, sink)
        world.asked.append((self.clock(), host))
        await asyncio.sleep(world.takes)
        if (rate := world.rates.get(host)) is not None:
            for second in range(int(SIZE / rate)):
                await asyncio.sleep(1.0)
                sink.received(int(second * rate), SIZE)
        error = world.peers[host]
        self.moves += world.moves_while_asked
        if isinstance(error, PeerError) and not world.sends_before_errors:
            raise error
        sink.write(bytes(world.sends))
        sink.received(world.sends, SIZE)
        if error is not None:
            raise error
        return candidate.info
