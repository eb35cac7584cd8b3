"""The ten attacks that the specification of The Update Framework lists (its section 1.5.2), each against a real node.

Each device has 1.0.0 and stays exactly that under the attack, or gets the owner's newest release in spite of it. More
of what hostile peers can do is in ``test_hostile_clients``, ``test_hostile_servers``, ``test_hostile_keys`` and
``test_floods`` (transport), and in ``test_refusals`` (releases).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.artifact import REGION_SIZE, sign_file
from pypatcher.errors import NotNewerError, RefusedReleaseError
from pypatcher.keys import KeyPair
from pypatcher.targets import find_target
from pypatcher.transfer import wire
from pypatcher.transport import Stream
from tests.support.devices import Device, LoopbackFleet, said_version
from tests.support.hostile import open_hostile_peer, region_offset, sending, take_an_honest_release
from tests.support.programs import AARCH64, with_section


@pytest.fixture
async def device(device: Device) -> AsyncIterator[Device]:
    """A device that nothing may change but the owner's newer release."""
    yield device
    assert said_version(device.path) == "1.0.0", "nothing changes before a start"


def stored(device: Device) -> int:
    """Bytes in the device's state folder, but for what its node says of itself, which comes and goes beside them."""
    layout = device.installation.layout
    said = {layout.report.name, layout.report_new.name}
    return sum(path.stat().st_size for path in layout.state_folder.iterdir() if path.name not in said)


async def test_arbitrary_software_is_not_installed_whoever_serves_it(world: LoopbackFleet, device: Device) -> None:
    _, announced = world.release("2.0.0")
    path, _ = world.release("2.0.0", KeyPair.generate())
    async with open_hostile_peer(world, sending(announced, path.read_bytes())) as peer:
        await peer.announce(announced)
        await device.wait_for("fetch.failed")
        assert device.installation.staged_release() is None
    await take_an_honest_release(world, device)


async def test_endless_data_costs_the_size_of_the_release_and_no_more(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("2.0.0")
    size = len(path.read_bytes())
    most = 0

    async def endless(stream: Stream) -> None:
        nonlocal most
        await stream.write(wire.encode_acceptance(info, size))
        with contextlib.suppress(Exception):
            while True:
                await stream.write(bytes(1 << 16))
                most = max(most, stored(device))

    before = stored(device)
    async with open_hostile_peer(world, endless) as peer:
        await peer.announce(info)
        await device.wait_for("fetch.failed")
    assert max(most, stored(device)) <= before + size
    await take_an_honest_release(world, device)


async def test_extraneous_dependencies_cannot_ride_along_with_a_release(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("2.0.0")
    data = path.read_bytes() + b"one more file that nobody signed"
    async with open_hostile_peer(world, sending(info, data)) as peer:
        await peer.announce(info)
        await device.wait_for("fetch.failed")
        assert device.installation.staged_release() is None
    await take_an_honest_release(world, device)


async def test_a_fast_forward_to_a_forged_version_locks_no_true_one_out(world: LoopbackFleet, device: Device) -> None:
    _, forged = world.release("8191.9999.9999", KeyPair.generate())
    async with open_hostile_peer(world, sending(forged, b"")) as peer:
        await peer.announce(forged)
        await take_an_honest_release(world, device)
        assert not peer.asked.is_set()


async def test_an_indefinite_freeze_fails_once_one_honest_holder_is_heard(world: LoopbackFleet, device: Device) -> None:
    _, old = world.release("1.0.0")
    async with contextlib.AsyncExitStack() as peers:
        # Five ids with a genuine old announcement are what makes a slot look full.
        for number in range(5):
            peer = await peers.enter_async_context(open_hostile_peer(world, sending(old, b"")))
            await peer.announce(old, crowded=number > 0)
        await take_an_honest_release(world, device)


async def test_malicious_mirrors_do_not_keep_an_honest_one_out(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("3.0.0")
    data = path.read_bytes()

    async def hangs_up(stream: Stream) -> None:
        stream.reset()

    async def stalls(stream: Stream) -> None:
        await stream.write(wire.encode_acceptance(info, len(data)) + data[:500])

    async with contextlib.AsyncExitStack() as peers:
        answers = (sending(info, bytes(len(data))), sending(info, data[:-1], length=len(data)), hangs_up, stalls)
        for number, answer in enumerate(answers):
            peer = await peers.enter_async_context(open_hostile_peer(world, answer))
            await peer.announce(info, crowded=number > 0)
        await device.wait_for("fetch.failed")
        world.device(path)
        await device.wait_for("release.staged")


async def test_parts_of_two_true_releases_are_not_mixed_and_matched(world: LoopbackFleet, device: Device) -> None:
    older, older_info = world.release("2.0.0")
    newer, newer_info = world.release("2.1.0")
    offset = region_offset(newer)
    body, region = older.read_bytes(), newer.read_bytes()[offset : offset + REGION_SIZE]
    assert older_info.size == newer_info.size, "the two differ in their version alone, the worst case"
    mixed = body[:offset] + region + body[offset + REGION_SIZE :]
    if mixed == newer.read_bytes():
        mixed = bytes([*mixed[:-1], mixed[-1] ^ 1])
    async with open_hostile_peer(world, sending(newer_info, mixed)) as peer:
        await peer.announce(newer_info)
        await device.wait_for("fetch.failed")
        assert device.installation.staged_release() is None
    await take_an_honest_release(world, device)


async def test_a_rollback_to_a_true_older_release_is_not_taken(world: LoopbackFleet, device: Device) -> None:
    path, info = world.release("0.9.0")
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(info)
        await take_an_honest_release(world, device)
        assert not peer.asked.is_set()
    with pytest.raises(NotNewerError):
        device.installation.check_wanted(info.version)


async def test_a_compromised_key_of_another_program_moves_nobody_here(world: LoopbackFleet, device: Device) -> None:
    """What one key can promise: it is worth its own program. A release that fails is refused by its hash for good."""
    stolen = KeyPair.generate()
    path, info = world.release("2.0.0", stolen)
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(info)
        await take_an_honest_release(world, device)
        assert not peer.asked.is_set()
    failed = device.installation.staged_release()
    assert failed is not None
    device.restart()
    for _ in range(3):
        device.installation.end_start(requested=False)
        device.installation.settle("run")
    assert said_version(device.path) == "1.0.0"
    with pytest.raises(RefusedReleaseError):
        device.installation.check_wanted(failed.info.version, failed.sha512)


async def test_wrong_software_signed_for_another_target_is_not_installed(
    world: LoopbackFleet, device: Device, tmp_path: Path
) -> None:
    path = tmp_path / "for-another-target"
    path.write_bytes(with_section("2.0.0", machine=AARCH64))
    info = sign_file(path, world.key, None, find_target("aarch64"))
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(info)
        refused = await device.wait_for("release.refused")
        assert "AArch64" in refused.reason
    await take_an_honest_release(world, device)
