"""Every refusal: a release that this device must not take leaves the program and the node as they were.

Real nodes on a private DHT, real signed ELF programs, and peers that lie. After each lie the program still runs, the
node still looks, and an honest peer's release is fetched, staged, and runs after the next start.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pypatcher.addresses import parse_address
from pypatcher.artifact import REGION_SIZE, PatchInfo, make_info, read_release, sign_file
from pypatcher.artifact.region import template
from pypatcher.errors import ArtifactError, NotNewerError, SignatureMismatchError
from pypatcher.install import Installation
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import find_target
from pypatcher.transport import Stream, wire
from pypatcher.version import Version
from tests.support.devices import Device, World, open_world, said_version
from tests.support.hostile import open_hostile_peer, sending
from tests.support.programs import AARCH64, PROGBITS, make_elf, move_region, with_section
from tests.support.transport import loopback


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as made:
        yield made


@pytest.fixture
async def device(world: World) -> AsyncIterator[Device]:
    """A device at 1.0.0. Whatever a test does to it, afterwards it takes 3.0.0 from an honest peer."""
    old, _ = world.release("1.0.0")
    made = world.device(old)
    yield made
    assert not made.task.done()
    assert made.path.read_bytes() == old.read_bytes()
    assert said_version(made.path) == "1.0.0"
    assert made.installation.staged_release() is None
    assert [path.name for path in made.installation.layout.state_folder.glob("partial-*")] == []
    new, _ = world.release("3.0.0")
    world.device(new)
    await made.wait_for("release.staged", lambda event: event.version == "3.0.0")
    assert made.restart() == "3.0.0"
    assert made.path.read_bytes() == new.read_bytes()


def offset_of(path: Path) -> int:
    with path.open("rb") as file:
        return read_release(file.fileno()).located.offset


async def expect_failure(world: World, device: Device, info: PatchInfo, data: bytes, reason: str) -> None:
    """A peer that announces ``info`` truly and sends ``data`` is refused for that reason."""
    async with open_hostile_peer(world, sending(info, data)) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert reason in failed.reason
    assert failed.version == str(info.version)


async def expect_never_asked(world: World, device: Device, info: PatchInfo, path: Path) -> None:
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


async def test_a_release_announced_under_another_owners_key_is_never_asked_for(world: World, device: Device) -> None:
    path, info = world.release("2.0.0", KeyPair.generate())
    await expect_never_asked(world, device, info, path)


async def test_a_release_signed_by_another_owner_is_refused_when_it_comes(world: World, device: Device) -> None:
    _, announced = world.release("2.0.0")
    path, info = world.release("2.0.0", KeyPair.generate())
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(announced)
        failed = await device.wait_for("fetch.failed")
    assert "not the 2.0.0 that was announced" in failed.reason


async def test_a_file_with_another_owners_region_under_a_true_announcement_is_refused(
    world: World, device: Device
) -> None:
    _, announced = world.release("2.0.0")
    path, _ = world.release("2.0.0", KeyPair.generate())
    await expect_failure(world, device, announced, path.read_bytes(), "not what was announced")


async def test_a_release_for_another_target_is_refused_though_the_owner_signed_it(
    world: World, device: Device, tmp_path: Path
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
async def test_an_older_or_equal_version_is_never_asked_for(world: World, device: Device, version: str) -> None:
    path, info = world.release(version)
    await expect_never_asked(world, device, info, path)
    with pytest.raises(NotNewerError):
        device.installation.check_wanted(info.version)


async def test_an_older_release_under_a_newer_ones_announcement_is_refused(world: World, device: Device) -> None:
    _, announced = world.release("2.0.0")
    path, info = world.release("0.9.0")
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(announced)
        failed = await device.wait_for("fetch.failed")
    assert "sends 0.9.0, which is not the 2.0.0 that was announced" in failed.reason


@pytest.mark.parametrize("where", ["front", "back", "one byte on"])
async def test_the_region_moved_elsewhere_is_refused(world: World, device: Device, where: str) -> None:
    path, info = world.release("2.0.0")
    data, offset = path.read_bytes(), offset_of(path)
    moved = move_region(data, offset, {"front": 0, "back": len(data) - REGION_SIZE, "one byte on": offset + 1}[where])
    assert len(moved) == len(data)
    await expect_failure(world, device, info, moved, "")


async def test_a_truncated_release_is_refused(world: World, device: Device) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes()
    async with open_hostile_peer(world, sending(info, data[:-1], length=len(data))) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert "early" in failed.reason


@pytest.mark.parametrize("extra", [b"\0", b"a second region"])
async def test_a_release_that_is_too_long_is_refused(world: World, device: Device, extra: bytes) -> None:
    path, info = world.release("2.0.0")
    if extra != b"\0":
        extra = path.read_bytes()[offset_of(path) :][:REGION_SIZE]
    data = path.read_bytes()
    async with open_hostile_peer(world, sending(info, data + extra, length=len(data))) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert "more than" in failed.reason


@pytest.mark.parametrize("off", [-1, 1, 1 << 40])
async def test_a_peer_that_sends_another_length_is_refused_before_a_byte_is_written(
    world: World, device: Device, off: int
) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes()
    async with open_hostile_peer(world, sending(info, data, length=len(data) + off)) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
    assert "bytes" in failed.reason
    assert "fetch.started" not in device.names()


@pytest.mark.parametrize("place", ["first", "region", "last"])
async def test_a_flipped_byte_is_refused(world: World, device: Device, place: str) -> None:
    path, info = world.release("2.0.0")
    data = bytearray(path.read_bytes())
    data[{"first": 0x20, "region": offset_of(path) + 100, "last": len(data) - 1}[place]] ^= 1
    await expect_failure(world, device, info, bytes(data), "")


async def test_a_release_without_a_region_is_refused(world: World, device: Device) -> None:
    path, info = world.release("2.0.0")
    data, offset = path.read_bytes(), offset_of(path)
    empty = data[:offset] + bytes(REGION_SIZE) + data[offset + REGION_SIZE :]
    await expect_failure(world, device, info, empty, "no region")


async def test_a_release_with_two_regions_is_refused_though_the_owner_signed_it(world: World, device: Device) -> None:
    data, info = two_regions(world.key, "2.0.0")
    await expect_failure(world, device, info, data, "two")


async def test_a_peer_that_stalls_is_given_up(world: World, device: Device) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes()

    async def half(stream: Stream) -> None:
        await stream.write(wire.encode_acceptance(info, len(data)) + data[:1000])

    async with open_hostile_peer(world, half) as peer:
        await peer.announce(info)
        failed = await device.wait_for("fetch.failed")
        assert "stalled" in failed.reason


@pytest.mark.parametrize("forgery", ["signed by another", "not signed", "a true signature of another version"])
async def test_a_forged_record_of_version_999_moves_nobody(world: World, device: Device, forgery: str) -> None:
    path, forged = world.release("999.0.0", KeyPair.generate())
    if forgery == "not signed":
        forged = replace(forged, signature=bytes(64))
    elif forgery == "a true signature of another version":
        forged = replace(world.release("2.0.0")[1], version=forged.version)
    await expect_never_asked(world, device, forged, path)


async def test_a_record_that_names_an_honest_peers_address_under_another_id_hides_nobody(world: World) -> None:
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


async def test_addresses_where_nobody_is_cost_a_moment_and_nothing_else(world: World, device: Device) -> None:
    _, info = world.release("2.0.0")
    async with open_hostile_peer(world, sending(info, b"")) as peer:
        gone = peer.endpoint.addresses
    async with open_hostile_peer(world, sending(info, b"")) as peer:
        await peer.announce(info, *gone, (loopback(), 9))
        await device.wait_for("release.found")
        assert not peer.asked.is_set()


def two_regions(key: KeyPair, version: str) -> tuple[bytes, PatchInfo]:
    """A program with a section of each name, and a true signature over the file without the first one's region."""
    region = template(Version.parse(version))
    sections = tuple((name, PROGBITS, region) for name in (".embedded_signature", ".embsig"))
    data = make_elf(sections=((".text", PROGBITS, b"\xc3" * 40), *sections))
    offset = data.index(region)
    rest = data[:offset] + data[offset + REGION_SIZE :]
    info = make_info(Version.parse(version), hashlib.sha512(rest).digest()[:32], len(rest), key)
    return data[:offset] + info.to_region().pack() + data[offset + REGION_SIZE :], info


class Shelf:
    """An installation of a program of a kilobyte, and what it says to a download."""

    def __init__(self, folder: Path) -> None:
        self.key = KeyPair.from_seed(bytes(32))
        program = folder / "program"
        self.old = self.signed(program, "1.0.0")
        self.installation = Installation(program, OwnerKey(self.key.public), find_target("x86_64"))
        self.installation.settle("run")

    def signed(self, path: Path, version: str) -> PatchInfo:
        path.write_bytes(with_section(version))
        return sign_file(path, self.key, None, find_target("x86_64"))

    def stage(self, data: bytes, info: PatchInfo) -> PatchInfo:
        partial = self.installation.new_partial()
        partial.write(data)
        return self.installation.stage(partial, info)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_flip_of_any_byte_is_refused_and_the_untouched_file_is_taken(shelf: Shelf, tmp_path: Path) -> None:
    info = shelf.signed(tmp_path / "new", "2.0.0")
    data = (tmp_path / "new").read_bytes()
    for offset in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[offset] ^= flip
            with pytest.raises(ArtifactError):
                shelf.stage(bytes(damaged), info)
    assert shelf.installation.staged_release() is None
    assert list(shelf.installation.layout.state_folder.glob("partial*")) == []
    shelf.stage(data, info)
    assert shelf.installation.staged_release().info == info  # type: ignore[union-attr]


def test_every_length_but_the_right_one_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    info = shelf.signed(tmp_path / "new", "2.0.0")
    data = (tmp_path / "new").read_bytes()
    for length in range(len(data)):
        with pytest.raises(ArtifactError):
            shelf.stage(data[:length], info)
    for extra in (b"\0", b"\n", data, data[-REGION_SIZE:], bytes(REGION_SIZE)):
        with pytest.raises(ArtifactError):
            shelf.stage(data + extra, info)
        with pytest.raises(ArtifactError):
            shelf.stage(extra + data, info)


def test_the_region_at_any_other_place_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    info = shelf.signed(tmp_path / "new", "2.0.0")
    data, offset = (tmp_path / "new").read_bytes(), offset_of(tmp_path / "new")
    for place in range(len(data) - REGION_SIZE + 1):
        moved = move_region(data, offset, place)
        if moved != data:
            with pytest.raises(ArtifactError):
                shelf.stage(moved, info)


def test_older_and_equal_versions_are_refused_whatever_was_announced(shelf: Shelf, tmp_path: Path) -> None:
    for version in ("0.9.9", "1.0.0"):
        info = shelf.signed(tmp_path / "other", version)
        with pytest.raises(NotNewerError):
            shelf.stage((tmp_path / "other").read_bytes(), info)


def test_two_regions_another_key_and_another_target_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    data, info = two_regions(shelf.key, "2.0.0")
    with pytest.raises(ArtifactError):
        shelf.stage(data, info)
    path = tmp_path / "other"
    path.write_bytes(with_section("2.0.0"))
    info = sign_file(path, KeyPair.generate(), None, None)
    with pytest.raises(SignatureMismatchError):
        shelf.stage(path.read_bytes(), info)
    path.write_bytes(with_section("2.0.0", machine=AARCH64))
    info = sign_file(path, shelf.key, None, None)
    with pytest.raises(ArtifactError, match="AArch64"):
        shelf.stage(path.read_bytes(), info)
