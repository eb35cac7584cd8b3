"""A device whose slots and swarms are in hostile hands hears its owner, and updates from one honest peer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from pypatcher.addresses import Address, parse_address
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.dht import Dht, PeersLookup, Testnet
from pypatcher.discovery import Published, Tracker
from pypatcher.node.cache import Cache, Memory, cache_folder
from tests.support.devices import Device, LoopbackFleet, here, open_fleet


@pytest.fixture
def besieged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is said in a slot or a swarm is heard."""

    async def look(_self: Tracker, **_options: object) -> list[object]:
        return []

    async def publish(_self: Tracker, *_: object) -> Published:
        return Published(0, 0)

    async def find_peers(_self: Dht, info_hash: bytes, _near: Iterable[object] = (), **_options: object) -> PeersLookup:
        return PeersLookup(info_hash, (), 0, (), 0.0)

    monkeypatch.setattr(Tracker, "look", look)
    monkeypatch.setattr(Tracker, "publish", publish)
    monkeypatch.setattr(Dht, "find_peers", find_peers)


def met_before(fleet: LoopbackFleet, device: Device, address: Address) -> None:
    """Have a device that is about to start remember a peer of an earlier run."""
    folder = cache_folder(device.path.parent / "state", {}, fleet.namespace.name)
    Cache(folder).save(Memory(good_peers=(address,)))


@pytest.mark.usefixtures("besieged")
async def test_one_peer_of_an_earlier_run_is_enough(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
        word = first_word(fleet.key, info, [here().name], Change(share=10_000))
        holder = fleet.device(new, manifest=word)
        started = await holder.wait_for("node.started")
        device = fleet.device(old)
        met_before(fleet, device, parse_address(started.addresses[0]))
        staged = await device.wait_for("release.staged")
        assert staged.version == "2.0.0"
        assert device.node.word is not None
        assert device.node.word.current is not None
        assert device.node.word.current.seq == word.seq
        assert device.restart() == "2.0.0"


@pytest.mark.usefixtures("besieged")
async def test_the_pointer_is_read_and_written_over_ipv6_alone(tmp_path: Path) -> None:
    async with Testnet(12, host="::1") as net:
        fleet = LoopbackFleet(tmp_path, net)
        (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
        word = first_word(fleet.key, info, [here().name], Change(share=0))
        holder = Device(tmp_path / "holder", new, fleet.owner, net.bootstrap, manifest=word, host="::1")
        device = Device(tmp_path / "device", old, fleet.owner, net.bootstrap, host="::1")
        try:
            async with asyncio.timeout(30):
                while device.node.word is None or device.node.word.seq < word.seq:
                    await asyncio.sleep(0.1)
        finally:
            await holder.stop()
            await device.stop()


@pytest.mark.usefixtures("besieged")
async def test_the_pointer_alone_tells_a_device_what_the_owner_says(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
        word = first_word(fleet.key, info, [here().name], Change(share=0))
        fleet.device(new, manifest=word)
        device = fleet.device(old)
        async with asyncio.timeout(30):
            while device.node.word is None or device.node.word.seq < word.seq:
                await asyncio.sleep(0.1)
        assert not [event for event in device.events if event.name == "release.staged"]
