"""A rollout on real ``pypatcher run`` processes: a share, exactly those that the formula names, and then all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, check_release
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.terms import ALL, Hold
from pypatcher.dht import Testnet
from pypatcher.keys import OwnerKey, encode_key
from pypatcher.update.orders import word_name
from pypatcher.update.policy import draw
from tests.support.devices import here
from tests.support.packagings import wait_until
from tests.support.transport import loopback
from tests.support.updates import KEY, NEW, OLD, Program, build

pytestmark = pytest.mark.timeout(300)
HALF = 5000
RUN = [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--", "./app", "stay"]


class Rollout:
    """Six devices with fixed numbers, and a holder of the new version that has the owner's word beside it."""

    def __init__(self, folder: Path, built: dict[str, Path], net: Testnet) -> None:
        self._folder, self._built, self._net = folder, built, net
        self.devices = {bytes([number]) * 16: self._device(number) for number in range(6)}
        with built[NEW].open("rb") as file:
            self.info: PatchInfo = check_release(file.fileno(), OwnerKey(KEY.public), here()).info
        self.word = first_word(KEY, self.info, [here().name], Change(share=HALF))
        self.holders: list[Program] = []

    def _device(self, number: int) -> Program:
        program = Program(self._folder / f"device-{number}", self._built, self._net.bootstrap, OLD)
        program.start(*RUN, PYPATCHER_LOG="json", PYPATCHER_DEVICE_ID=(bytes([number]) * 16).hex())
        return program

    def hold(self, word: ManifestFile) -> None:
        """Start the holder with that word beside it, in place of the one before."""
        for before in self.holders:
            before.close()
        program = Program(self._folder / f"holder-{len(self.holders)}", self._built, self._net.bootstrap, NEW)
        write_manifest(manifest_path(program.path), word, replace=True)
        program.start(*RUN, PYPATCHER_LOG="json")
        self.holders.append(program)

    def updated(self) -> set[bytes]:
        """The devices whose last start was one of the new version."""
        return {number for number, device in self.devices.items() if _last_start(device) == NEW}

    def know(self, word: ManifestFile) -> bool:
        """Whether all have stored it."""
        name = f".app.pypatcher/manifest-{word_name(word.owner)}.seen"
        files = [device.path.parent / name for device in self.devices.values()]
        return all(file.exists() and int(file.read_text()) == word.seq for file in files)


def _last_start(device: Program) -> str:
    lines = device.text("log").splitlines()
    return lines[-1].split()[0] if lines else ""


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    built = await asyncio.to_thread(build, "elf")
    async with Testnet(10, host=loopback()) as net:
        made = Rollout(tmp_path, built, net)
        yield made
        for program in (*made.devices.values(), *made.holders):
            program.close()


async def test_a_share_takes_it_then_all_and_a_recall_brings_all_back(rollout: Rollout) -> None:
    expected = {number for number in rollout.devices if draw(number, rollout.info.release_id) < HALF}
    assert 0 < len(expected) < 6
    rollout.hold(rollout.word)
    await asyncio.to_thread(wait_until, lambda: rollout.know(rollout.word), "all know the share")
    await asyncio.to_thread(wait_until, lambda: rollout.updated() == expected, "those of the share")
    await asyncio.sleep(3.0)
    assert rollout.updated() == expected
    opened = next_word(rollout.word, KEY, Change(share=ALL), made=0)
    rollout.hold(opened)
    await asyncio.to_thread(wait_until, lambda: len(rollout.updated()) == 6, "all of them")
    await asyncio.to_thread(wait_until, lambda: rollout.know(opened), "all know that it is open")
    recalled = next_word(opened, KEY, Change(hold=Hold.RECALLED), made=0)
    rollout.hold(recalled)
    await asyncio.to_thread(wait_until, lambda: not rollout.updated(), "all are back, by themselves")
