"""What a release moves between real nodes: what changed, where the owner stated the tree; else the whole, as ever."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.artifact.compare import compare_files
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.tree import stated_root
from pypatcher.budgets.upload import Upload
from pypatcher.discovery import Namespace
from pypatcher.transfer import giving
from pypatcher.transfer.stall import StallWatch
from pypatcher.transport.stream import Stream
from tests.integration.test_cli_fetch import fetch
from tests.support.devices import LoopbackFleet, compile_app, here, open_fleet

SIZE = 3_000_000
"""Of what is packed behind the program: as in a onefile."""


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as world:
        (tmp_path / "here").mkdir()
        yield world


def release(fleet: LoopbackFleet, version: str, line: bytes) -> tuple[Path, PatchInfo]:
    """A program of some MB with one line that differs in the middle."""
    path = compile_app(fleet.folder / f"app-{version}", version)
    packed = random.Random(1).randbytes(SIZE)
    path.write_bytes(path.read_bytes() + packed[: SIZE // 2] + line + packed[SIZE // 2 :])
    return path, sign_file(path, fleet.key, None, here())


def word(fleet: LoopbackFleet, path: Path, info: PatchInfo, tree: bytes | None = None) -> ManifestFile:
    with path.open("rb") as file:
        return first_word(fleet.key, info, [here().name], Change(tree=tree or stated_root(file.fileno())))


def count_given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every piece that any node gives, as it goes over the network."""
    given: list[int] = []

    async def give(stream: Stream, data: bytes, upload: Upload, watch: StallWatch) -> None:
        given.append(len(data))
        await giving.give(stream, data, upload, watch)

    monkeypatch.setattr("pypatcher.transfer.v1.giving.give", give)
    monkeypatch.setattr("pypatcher.transfer.v1.parts_writer.give", give)
    return given


async def test_a_line_of_a_large_program_moves_a_few_percent(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = release(fleet, "1.0.0", b""), release(fleet, "2.0.0", b"one line more")
    said = word(fleet, new, info)
    holder, device = fleet.device(new, manifest=said), fleet.device(old, manifest=said)
    await device.wait_for("release.staged")
    served = await holder.wait_for("release.served")
    assert 0 < served.bytes < info.file_size * 3 // 100
    assert device.restart() == "2.0.0"
    assert device.path.read_bytes() == new.read_bytes()


async def test_a_program_that_is_new_everywhere_moves_deflated(
    fleet: LoopbackFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a C program that was compiled anew: each chunk has some address in it that is another one."""
    given = count_given(monkeypatch)
    old, new = (compile_app(fleet.folder / f"app-{version}", version) for version in ("1.0.0", "2.0.0"))
    for number, path in enumerate((old, new)):
        lines = (b"mov eax, [rbp-%d]\n" % (2 * at + number) for at in range(99_000))
        path.write_bytes(path.read_bytes() + b"".join(lines))
        info = sign_file(path, fleet.key, None, here())
    said = word(fleet, new, info)
    fleet.device(new, manifest=said)
    device = fleet.device(old, manifest=said)
    await device.wait_for("release.staged")
    assert 0 < sum(given) < info.file_size // 3
    assert device.restart() == "2.0.0"


@pytest.mark.parametrize("line", [b"one line more", b"text " * 20_000])
async def test_what_compare_says_is_what_moves(
    fleet: LoopbackFleet, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    given = count_given(monkeypatch)
    (old, _), (new, info) = release(fleet, "1.0.0", b""), release(fleet, "2.0.0", line)
    said = word(fleet, new, info)
    fleet.device(new, manifest=said)
    device = fleet.device(old, manifest=said)
    await device.wait_for("release.staged")
    told = compare_files(old, new).moved
    # Beside that come a few bytes of length before each node and range.
    assert told * 0.98 <= sum(given) <= told * 1.02 + 100


async def test_a_release_without_a_word_moves_whole(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = release(fleet, "1.0.0", b""), release(fleet, "2.0.0", b"one line more")
    holder, device = fleet.device(new), fleet.device(old)
    await device.wait_for("release.staged")
    assert (await holder.wait_for("release.served")).bytes >= info.file_size
    assert device.restart() == "2.0.0"


async def test_where_only_v0_is_spoken_the_whole_moves(fleet: LoopbackFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Namespace, "alpn_v1", None)
    (old, _), (new, info) = release(fleet, "1.0.0", b""), release(fleet, "2.0.0", b"one line more")
    said = word(fleet, new, info)
    holder, device = fleet.device(new, manifest=said), fleet.device(old, manifest=said)
    await device.wait_for("release.staged")
    assert (await holder.wait_for("release.served")).bytes >= info.file_size
    assert device.restart() == "2.0.0"


async def test_a_tree_of_another_file_ends_in_the_whole(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = release(fleet, "1.0.0", b""), release(fleet, "2.0.0", b"one line more")
    with old.open("rb") as file:
        said = word(fleet, new, info, stated_root(file.fileno()))
    fleet.device(new, manifest=said)
    device = fleet.device(old, manifest=said)
    await device.wait_for("release.staged")
    assert device.restart() == "2.0.0"


async def test_fetch_takes_only_what_a_named_file_lacks(fleet: LoopbackFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    given = count_given(monkeypatch)
    (old, _), (new, info) = release(fleet, "1.0.0", b""), release(fleet, "2.0.0", b"one line more")
    holder = fleet.device(new, manifest=word(fleet, new, info))
    await holder.wait_for("record.published")
    done = await fetch(fleet, "--from", str(old), "--timeout", "4", "--json")
    assert done.status == 0, done.err
    assert (fleet.folder / "here" / "app").read_bytes() == new.read_bytes()
    assert 0 < sum(given) < info.file_size * 3 // 100
