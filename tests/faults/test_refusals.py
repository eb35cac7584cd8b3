"""Every refusal: a release that this device must not take leaves the program and the node as they were.

Real nodes on a private DHT, real signed ELF programs, and peers that lie. After each lie the program still runs, the
node still looks, and an honest peer's release is fetched, staged, and runs after the next start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pypatcher.addresses import parse_address
from pypatcher.artifact import REGION_SIZE, PatchInfo, sign_file
from pypatcher.errors import NotNewerError
from pypatcher.keys import KeyPair
from pypatcher.targets import find_target
from pypatcher.transfer import wire
from pypatcher.transport import Stream
from tests.support.devices import Device, LoopbackFleet, said_version
from tests.support.hostile import open_hostile_peer, region_offset, sending, take_an_honest_release, two_regions
from tests.support.programs import AARCH64, move_region, with_section
from tests.support.transport import loopback


@pytest.fixture
async def device(world: LoopbackFleet, device: Device) -> AsyncIterator[Device]:
    """Whatever a test does to the device, it stays as it was, and afterwards it takes 3.0.0 from an honest peer."""
    old = device.path.read_bytes()
    yield device
    assert device.path.read_bytes() == old
    assert said_version(device.path) == "1.0.0"
    assert device.installation.staged_release() is None
    assert [path.name for path in device.installation.layout.state_folder.glob("partial-*")] == []
    await take_an_honest_release(world, device)
    assert device.restart() == "3.0.0"


async def expect_failure(world: LoopbackFleet, device: Device, info: PatchInfo, data: bytes, reason: str) -> None:
    """A peer that announces ``info`` truly and sends ``data`` is refused for that reason."""
    async with open_hostile_peer(world, sending(info, data)) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert reason in failed.reason
    assert failed.version == str(info.version)


async def expect_never_asked(world: LoopbackFleet, device: Device, info: PatchInfo, path: Path) -> None:
    """A peer that announces ``info`` and has ``path`` is not asked by a device that has read its record."""
    async with (
        open_hostile_peer(world, sending(info, path.read_bytes())) as peer,
        open_hostile_peer(world, sending(info, b"")) as other,
    ):
        await peer.announce(info)
        # One look reads both slots: it found what was written into the other one later.
        await other.announce(world.release("2.0.1")[1], minutes_ago=0)
        await device.wait_for("fetch.failed")
        assert not peer.asked.is_set()
    assert {event.version for event in device.events if event.name == "release.found"} == {"2.0.1"}


async def test_a_release_under_another_owners_key_is_never_asked_for(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("2.0.0", KeyPair.generate())
    await expect_never_asked(world, device, info, path)


async def test_a_release_signed_by_another_owner_is_refused_when_it_comes(world: LoopbackFleet, device: Device) -> None:
    _, announced = world.release("2.0.0")
    path, info = world.release("2.0.0", KeyPair.generate())
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(announced)
        failed = await device.wait_for("fetch.failed")
    assert "not the 2.0.0 that was announced" in failed.reason


async def test_another_owners_region_under_a_true_announcement_is_refused(world: LoopbackFleet, device: Device) -> None:
    _, announced = world.release("2.0.0")
    path, _ = world.release("2.0.0", KeyPair.generate())
    await expect_failure(world, device, announced, path.read_bytes(), "not what was announced")


async def test_a_signed_release_for_another_target_is_refused(
    world: LoopbackFleet, device: Device, tmp_path: Path
) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(with_section("2.0.0", machine=AARCH64))
    info = sign_file(path, world.key, None, find_target("aarch64"))
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(info)
        refused = await device.wait_for("release.refused")
    assert "AArch64" in refused.reason
    assert refused.version == str(info.version)


@pytest.mark.parametrize("version", ["0.9.9", "1.0.0"])
async def test_an_older_or_equal_version_is_never_asked_for(world: LoopbackFleet, device: Device, version: str) -> None:
    path, info = world.release(version)
    await expect_never_asked(world, device, info, path)
    with pytest.raises(NotNewerError):
        device.installation.check_wanted(info.version)


async def test_an_older_release_under_a_newer_ones_announcement_is_refused(
    world: LoopbackFleet, device: Device
) -> None:
    _, announced = world.release("2.0.0")
    path, info = world.release("0.9.0")
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(announced)
        failed = await device.wait_for("fetch.failed")
    assert "sends 0.9.0, which is not the 2.0.0 that was announced" in failed.reason


@pytest.mark.parametrize("where", ["front", "back", "one byte on"])
async def test_the_region_moved_elsewhere_is_refused(world: LoopbackFleet, device: Device, where: str) -> None:
    path, info = world.release("2.0.0")
    data, offset = path.read_bytes(), region_offset(path)
    moved = move_region(data, offset, {"front": 0, "back": len(data) - REGION_SIZE, "one byte on": offset + 1}[where])
    assert len(moved) == len(data)
    await expect_failure(world, device, info, moved, "")


async def test_a_truncated_release_is_refused(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes()
    async with open_hostile_peer(world, sending(info, data[:-1], length=len(data))) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert "early" in failed.reason


@pytest.mark.parametrize("extra", [b"\0", b"a second region"])
async def test_a_release_that_is_too_long_is_refused(world: LoopbackFleet, device: Device, extra: bytes) -> None:
    path, info = world.release("2.0.0")
    if extra != b"\0":
        extra = path.read_bytes()[region_offset(path) :][:REGION_SIZE]
    data = path.read_bytes()
    async with open_hostile_peer(world, sending(info, data + extra, length=len(data))) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert "more than" in failed.reason


@pytest.mark.parametrize("off", [-1, 1, 1 << 40])
async def test_another_length_is_refused_before_a_byte_is_written(
    world: LoopbackFleet, device: Device, off: int
) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes()
    async with open_hostile_peer(world, sending(info, data, length=len(data) + off)) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert "bytes" in failed.reason
    assert "fetch.started" not in device.names()


@pytest.mark.parametrize("place", ["first", "region", "last"])
async def test_a_flipped_byte_is_refused(world: LoopbackFleet, device: Device, place: str) -> None:
    path, info = world.release("2.0.0")
    data = bytearray(path.read_bytes())
    data[{"first": 0x20, "region": region_offset(path) + 100, "last": len(data) - 1}[place]] ^= 1
    await expect_failure(world, device, info, bytes(data), "")


async def test_a_release_without_a_region_is_refused(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("2.0.0")
    data, offset = path.read_bytes(), region_offset(path)
    empty = data[:offset] + bytes(REGION_SIZE) + data[offset + REGION_SIZE :]
    await expect_failure(world, device, info, empty, "no region")


async def test_a_signed_release_with_two_regions_is_refused(world: LoopbackFleet, device: Device) -> None:
    data, info = two_regions(world.key, "2.0.0")
    await expect_failure(world, device, info, data, "two")


async def test_a_peer_that_stalls_is_given_up(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes()

    async def half(stream: Stream) -> None:
        await stream.write(wire.encode_acceptance(info, len(data)) + data[:1000])

    async with open_hostile_peer(world, half) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
        assert "stalled" in failed.reason


@pytest.mark.parametrize("forgery", ["signed by another", "not signed", "a true signature of another version"])
async def test_a_forged_record_of_version_999_moves_nobody(world: LoopbackFleet, device: Device, forgery: str) -> None:
    path, forged = world.release("999.0.0", KeyPair.generate())
    if forgery == "not signed":
        forged = replace(forged, signature=bytes(64))
    elif forgery == "a true signature of another version":
        forged = replace(world.release("2.0.0")[1], version=forged.version)
    await expect_never_asked(world, device, forged, path)


async def test_an_honest_address_under_another_id_hides_nobody(world: LoopbackFleet) -> None:
    old, _ = world.release("1.0.0")
    new, info = world.release("2.0.0")
    honest = world.device(new)
    started = await honest.wait_for("node.started")
    await honest.wait_for("record.published")
    async with open_hostile_peer(world, sending(info, b"")) as peer:
        await peer.announce(info, parse_address(started.addresses[0]))
        device = world.device(old)
        await device.wait_for("release.staged")
        assert "fetch.failed" not in device.names()
    assert device.restart() == "2.0.0"


async def test_addresses_where_nobody_is_cost_a_moment_and_nothing_else(world: LoopbackFleet, device: Device) -> None:
    _, info = world.release("2.0.0")
    async with open_hostile_peer(world, sending(info, b"")) as peer:
        gone = peer.endpoint.addresses
    async with open_hostile_peer(world, sending(info, b"")) as peer:
        await peer.announce(info, *gone, (loopback(), 9))
        await device.wait_for("release.found")
        assert not peer.asked.is_set()
