"""Everybody lies but one peer that speaks v1: no device moves before it is met, and every device does after that.

The whole DHT is hostile, each name of the pointer, each slot and swarm in it, and whoever is named there (``liars``).
The honest peer has the newest release and the owner's word about it; nobody names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.addresses import Address, parse_address
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.terms import Hold
from pypatcher.node.cache import Cache, Memory, cache_folder
from pypatcher.node.silence import SilenceWatch
from tests.support.devices import Device, LoopbackFleet, here, open_fleet
from tests.support.liars import Liars, open_liars

pytestmark = pytest.mark.timeout(150)


class Besieged:
    """A fleet of which one device has the newest release, and the liars around it."""

    def __init__(self, fleet: LoopbackFleet, liars: Liars, programs: tuple[Path, Path], words: list[ManifestFile]):
        self._fleet, self.liars, self._programs = fleet, liars, programs
        self.old_word, self.word = words

    def device(self, *, has_newest: bool = False, remembers: Address | None = None) -> Device:
        """A device that knows the word about what it runs, and perhaps an address from an earlier run."""
        folder, number = self._fleet.folder, len(self._fleet.devices)
        state = folder / f"device-{number}" / "state"
        program, word = self._programs[has_newest], self.word if has_newest else self.old_word
        device = Device(state.parent, program, self._fleet.owner, self.liars.bootstrap, manifest=word)
        if remembers is not None:
            Cache(cache_folder(state, {}, self._fleet.namespace.name)).save(Memory(good_peers=(remembers,)))
        self._fleet.devices.append(device)
        return device

    async def updates(self, device: Device) -> None:
        """The device comes to the newest release and to the newest word, and is told no other."""
        await device.wait_for("release.staged", lambda event: event.version == "2.0.0", seconds=60.0)
        known = device.node.word
        assert known is not None
        assert known.seq == self.word.seq
        assert device.restart() == "2.0.0"


@pytest.fixture
async def besieged(tmp_path: Path) -> AsyncIterator[Besieged]:
    async with open_fleet(tmp_path, nodes=1) as fleet:
        (old, old_info), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
        old_word = first_word(fleet.key, old_info, [here().name], Change())
        held = first_word(fleet.key, info, [here().name], Change(hold=Hold.HELD))
        word = next_word(held, fleet.key, Change(hold=Hold.GO_ON), made=0)
        async with open_liars(fleet.namespace, old_word, old_info, info) as liars:
            made = Besieged(fleet, liars, (old, new), [old_word, word])
            yield made
            await asyncio.gather(*(device.stop() for device in fleet.devices))


async def address_of(device: Device) -> Address:
    """Where it is reached."""
    return parse_address((await device.wait_for("node.started")).addresses[0])


async def test_one_honest_peer_that_it_remembers_is_enough(besieged: Besieged) -> None:
    honest = besieged.device(has_newest=True)
    await besieged.updates(besieged.device(remembers=await address_of(honest)))


async def test_liars_alone_move_nothing_and_a_peer_that_dials_does(besieged: Besieged) -> None:
    device = besieged.device()
    address = await address_of(device)
    await besieged.liars.have_told_everything()
    known = device.node.word
    assert known is not None
    assert known.seq == besieged.old_word.seq
    assert "release.staged" not in device.names()
    watch = SilenceWatch(known, 0.0)
    said = "; ".join(watch.reasons(None, asyncio.get_running_loop().time()))
    assert "somebody is in the way" in said
    besieged.device(has_newest=True, remembers=address)
    await besieged.updates(device)
