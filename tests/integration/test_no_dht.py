"""Devices without any DHT hear the owner's word from each other, by the v1 exchange alone, whichever word it is.

Here they look every 0.3 s; as shipped each greets one peer every five minutes while no DHT answers, or every half
hour (``unit/test_settings.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pypatcher.addresses import parse_address
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.terms import Hold
from pypatcher.node.cache import Cache, Memory, cache_folder
from tests.support.devices import Device, LoopbackFleet, here, open_fleet


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path, nodes=1) as made:
        yield made
        await asyncio.gather(*(device.stop() for device in made.devices))


async def alone(fleet: LoopbackFleet, program: Path, word: ManifestFile, remembers: Device | None = None) -> Device:
    """A device without DHT that knows a word, and another device from an earlier run."""
    folder = fleet.folder / f"device-{len(fleet.devices)}"
    if remembers is not None:
        address = parse_address((await remembers.wait_for("node.started")).addresses[0])
        cache = Cache(cache_folder(folder / "state", {}, fleet.namespace.name))
    device = Device(folder, program, fleet.owner, (), manifest=word)
    if remembers is not None:
        cache.save(Memory(good_peers=(address,)))
    fleet.devices.append(device)
    return device


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(60.0):
            while not condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def seq_of(device: Device) -> int:
    return 0 if device.node.word is None else device.node.word.seq


def has_staged(device: Device) -> bool:
    return device.installation.staged_release() is not None


async def test_a_hold_reaches_everybody_from_peer_to_peer(fleet: LoopbackFleet) -> None:
    """A chain: the first hears a hold, who remembers it greets it, and is greeted by the third."""
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    opened = first_word(fleet.key, info, [here().name], Change())
    holder = await alone(fleet, new, opened)
    first = await alone(fleet, old, opened, holder)
    third = await alone(fleet, old, opened, first)
    await until(lambda: has_staged(first) and has_staged(third), "both have staged the release")
    await holder.stop()
    held = next_word(opened, fleet.key, Change(hold=Hold.HELD), made=0)
    await first.hear(held)
    await until(lambda: seq_of(third) == held.seq, "the third one hears the hold")
    await until(lambda: not has_staged(third), "what it staged is set aside")
    assert third.restart() == "1.0.0"
    again = next_word(held, fleet.key, Change(hold=Hold.GO_ON), made=0)
    await third.hear(again)
    await until(lambda: seq_of(first) == again.seq and has_staged(first), "who is greeted hears its end, too")
    assert first.restart() == "2.0.0"
