"""One release from several real nodes at once: holders share the work, and who has parts gives parts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.tree import stated_root
from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.upload import Upload
from pypatcher.transfer import giving
from pypatcher.transfer.stall import StallWatch
from pypatcher.transport.stream import Stream
from tests.support.devices import LoopbackFleet, compile_app, here, open_fleet

SIZE = 6_000_000


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as world:
        yield world


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Counter[UploadLimiter]:
    """Bytes that each node gives."""
    counted: Counter[UploadLimiter] = Counter()

    async def give(stream: Stream, data: bytes, upload: Upload, watch: StallWatch) -> None:
        counted[upload._limiter] += len(data)
        await giving.give(stream, data, upload, watch)

    monkeypatch.setattr("pypatcher.transfer.v1.giving.give", give)
    monkeypatch.setattr("pypatcher.transfer.v1.parts_writer.give", give)
    return counted


def releases(fleet: LoopbackFleet) -> tuple[Path, Path, PatchInfo, ManifestFile]:
    """An old program and a new one that is new everywhere, and what the owner says of it."""
    paths = []
    for number, version in enumerate(("1.0.0", "2.0.0")):
        path = compile_app(fleet.folder / f"app-{version}", version)
        path.write_bytes(path.read_bytes() + random.Random(number).randbytes(SIZE))
        info = sign_file(path, fleet.key, None, here())
        paths.append(path)
    with paths[1].open("rb") as file:
        said = first_word(fleet.key, info, [here().name], Change(tree=stated_root(file.fileno())))
    return paths[0], paths[1], info, said


async def test_two_holders_give_one_device_a_release_together(
    fleet: LoopbackFleet, given: Counter[UploadLimiter]
) -> None:
    old, new, info, said = releases(fleet)
    holders = [fleet.device(new, manifest=said) for _ in range(2)]
    for holder in holders:
        await holder.wait_for("record.published")
    device = fleet.device(old, manifest=said)
    await device.wait_for("release.staged")
    assert all(given[holder.node._shelf.limiter] > info.file_size // 10 for holder in holders), given
    assert sum(given.values()) < info.file_size * 105 // 100
    assert device.restart() == "2.0.0"
    assert device.path.read_bytes() == new.read_bytes()
