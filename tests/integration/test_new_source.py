"""A source of addresses is added by a file and a line in ``SOURCES``: a device updates by the smallest one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.addresses import parse_address
from pypatcher.discovery import sources
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.sources import AddressLimits, AddressSource, Found, Listener, Surroundings
from pypatcher.discovery.sources.pointer import pointer_source
from tests.support.devices import LoopbackFleet, open_fleet

NOTES = AddressLimits("notes", room=8, knocks=2)
WRITTEN: list[Candidate] = []


class NoteSource(AddressSource):
    """Somebody wrote down who has what."""

    name = "notes"
    limits = (NOTES,)

    async def look(self) -> Found:
        return Found(NOTES, candidates=list(WRITTEN), is_look=True)

    async def run(self, listener: Listener) -> None:
        listener.hear(await self.look())
        await asyncio.Event().wait()


def note_source(_around: Surroundings) -> NoteSource:
    return NoteSource()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as opened:
        yield opened


async def test_a_device_updates_by_a_source_that_is_one_file_and_one_line(
    world: LoopbackFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SOURCES", [note_source, pointer_source])  # the other tells no address
    old, _ = world.release("1.0.0")
    new, info = world.release("2.0.0")
    holder = await world.device(new).wait_for("node.started")
    address = parse_address(holder.addresses[0])
    monkeypatch.setattr(f"{__name__}.WRITTEN", [Candidate(info, bytes.fromhex(holder.node_id), address, "a note")])
    device = world.device(old)
    await device.wait_for("release.staged")
    assert device.restart() == "2.0.0"
