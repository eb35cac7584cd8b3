"""A device that is killed, or whose power is cut, while it fetches a release from several peers, on virtual time.

    once = run_alone(fetch(folder, 16_000_000, rate=130_000))
    more = run_alone(fetch(folder, 16_000_000, rate=130_000, cuts=10))

Killed, it sends nothing more from one moment to the next, and its file is as it was then; when the power is cut, the
file is as it was at its last fsync. Then it starts anew, with another identity and port. What the fetch costs is every
byte of all datagrams behind the handshakes, to it and from it.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.transfer.exchange import Sink
from pypatcher.update.outfile import Download
from tests.support.swarm_fleet import SwarmDevice, SwarmFleet

__all__ = ["Cost", "InterruptedDevice", "fetch"]

_HOST = "30.0.0.1"
_LONG_HEADER = 0x80
_LOOK_EVERY = 0.01


@dataclass
class Cost:
    """
    Attributes:
        sent: bytes of all datagrams behind handshakes, of those who are there to those who are there.
        lost: bytes that others sent to who was gone.
        seconds: until the release was there.
        times: how often it was interrupted.
    """

    sent: int = 0
    lost: int = 0
    seconds: float = 0.0
    times: int = 0


async def fetch(
    folder: Path, size: int, *, rate: int, peers: int = 3, kills: int = 0, cuts: int = 0, seed: int = 1
) -> Cost:
    """What it costs to fetch so many bytes from so many peers, of which each gives ``rate`` bytes a second.

    Interrupted it is at random places of the file, by ``seed``.
    """
    rng, cost = random.Random(seed), Cost()
    places = sorted(rng.uniform(0.0, size) for _ in range(kills + cuts))
    hows = rng.sample([False] * kills + [True] * cuts, kills + cuts)
    async with SwarmFleet(folder, size, seed=seed) as fleet:
        for number in range(peers):
            await fleet.seed((f"20.{number}.0.1", 6881), rate, daily_factor=100)
        _count(fleet, cost)
        begin, left = asyncio.get_running_loop().time(), folder / "left"
        for number in range(kills + cuts + 1):
            address = _HOST, 6881 + number
            device = InterruptedDevice(fleet, await fleet.speaker(address), address, left)
            running = asyncio.create_task(device.run())
            while not device.done.is_set() and (number == len(places) or device.here < places[number]):
                await asyncio.sleep(_LOOK_EVERY)
            if not device.done.is_set():
                device.interrupt(is_cut=hows[number])
                cost.times += 1
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        cost.seconds = device.done_at - begin
    return cost


def _count(fleet: SwarmFleet, cost: Cost) -> None:
    carry = fleet.network.carry

    def counted(data: bytes, source: Address, destination: Address) -> None:
        if _HOST in (source[0], destination[0]) and not data[0] & _LONG_HEADER:
            if source in fleet.network.ports and (source[0] == _HOST or destination in fleet.network.ports):
                cost.sent += len(data)
            else:
                cost.lost += len(data)
        carry(data, source, destination)

    fleet.network.carry = counted  # type: ignore[method-assign]


class InterruptedDevice(SwarmDevice):
    """One start of it.

    Attributes:
        here: bytes of the release that are here.
    """

    def __init__(self, fleet: SwarmFleet, speaker: Any, address: Address, left: Path) -> None:
        super().__init__(fleet, speaker, address)
        self.here = 0
        self._left = left
        self._into: _LeftDownload | None = None

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        heard = sink.received

        def received(count: int, total: int, came: int | None = None) -> None:
            self.here = count
            heard(count, total, came)

        sink.received = received  # type: ignore[method-assign]
        return await super().fetch(candidate, sink)

    def new_partial(self, info: PatchInfo | None = None) -> Any:
        self._into = _LeftDownload(self._folder, self._left)
        return self._into

    def interrupt(self, *, is_cut: bool) -> None:
        """From now on nothing of it is seen, but for what it left."""
        port = self.fleet.network.ports.pop(self.address)
        port.send = port.send_all = lambda *_, **__: None  # type: ignore[method-assign]
        if self._into is not None:
            self._into.keep(self._left, is_cut=is_cut)


class _LeftDownload(Download):
    """A download that goes on with what another one left, and knows what a power cut would take from it."""

    def __init__(self, folder: Path, left: Path) -> None:
        self.directory = os.open(folder, os.O_RDONLY)
        super().__init__(folder / "out", self.directory)
        self._path = folder / self.name
        if left.exists():
            shutil.copyfile(left, self._path)
        self._before: list[tuple[int, bytes]] = []

    def write_part(self, data: bytes, offset: int) -> None:
        self._before.append((offset, os.pread(self.fd, len(data), offset).ljust(len(data), b"\0")))
        super().write_part(data, offset)

    def sync(self) -> None:
        self._before.clear()

    def keep(self, left: Path, *, is_cut: bool) -> None:
        """A copy of what is there, or of what was at the last fsync."""
        shutil.copyfile(self._path, left)
        with left.open("r+b") as file:
            for offset, data in reversed(self._before if is_cut else []):
                os.pwrite(file.fileno(), data, offset)

    def discard(self) -> None:
        super().discard()
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1
