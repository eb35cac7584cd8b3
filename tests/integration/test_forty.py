"""Forty devices with fixed numbers, each with a program on disk: a share reaches exactly who the formula names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.rollout import Change, first_word, next_word, steps_and_brake
from pypatcher.artifact.terms import ALL, Hold
from pypatcher.discovery import Namespace
from pypatcher.keys import OwnerKey
from pypatcher.node.word import open_rule
from pypatcher.settings import Settings
from pypatcher.update.orders import open_installed
from pypatcher.update.rule import NodeRule
from pypatcher.update.wanted import PastDownloads
from tests.support.devices import LoopbackFleet, here

QUARTER = 2500


def number(index: int) -> bytes:
    return hashlib.sha512(b"device %d" % index).digest()[:16]


def takes_part(device_id: bytes, info: PatchInfo, share: int) -> bool:
    """As protocol.md has it."""
    release_id = hashlib.sha512(info.to_postcard()).digest()[:32]
    digest = hashlib.sha512(b"pypatcher rollout" + device_id + release_id).digest()
    return int.from_bytes(digest[:8], "big") % ALL < share


class Forty:
    """The devices, none of which has a network: words are told to them one by one."""

    def __init__(self, folder: Path) -> None:
        self.fleet = LoopbackFleet(folder, None)  # type: ignore[arg-type]
        old, _ = self.fleet.release("1.0.0")
        _, self.info = self.fleet.release("2.0.0")
        self.rules = {number(index): self._device(folder / f"at-{index}", old, number(index)) for index in range(40)}

    def _device(self, folder: Path, program: Path, device_id: bytes) -> NodeRule:
        folder.mkdir()
        path = folder / "app"
        path.write_bytes(program.read_bytes())
        path.chmod(0o755)
        owner = OwnerKey(self.fleet.key.public)
        installation = open_installed(path, owner, here())
        installation.settle("run")
        namespace = Namespace.ours(here().name, owner)
        return open_rule(installation, namespace, here().name, PastDownloads(), Settings(device_id=device_id))

    async def hear(self, change: Change, *more: Change) -> None:
        word = first_word(self.fleet.key, self.info, [here().name], change)
        for each in more:
            word = next_word(word, self.fleet.key, each, made=0)
        for rule in self.rules.values():
            mine = word.for_target(here().name)
            assert mine is not None and rule.word is not None
            await rule.word.hear(mine.encode())
            await rule.arrange()

    async def wanting(self) -> set[bytes]:
        return {device for device, rule in self.rules.items() if await rule.goal() == self.info}

    def expected(self, share: int) -> set[bytes]:
        return {device for device in self.rules if takes_part(device, self.info, share)}


@pytest.fixture
def forty(tmp_path: Path) -> Forty:
    return Forty(tmp_path)


async def test_a_quarter_is_exactly_who_the_formula_names(forty: Forty) -> None:
    await forty.hear(Change(share=QUARTER))
    assert set() < forty.expected(QUARTER) < set(forty.rules)
    assert await forty.wanting() == forty.expected(QUARTER)


async def test_shares_grow_around_who_has_it_and_a_hold_stops_all(forty: Forty) -> None:
    quarter, half = Change(share=QUARTER), Change(share=2 * QUARTER)
    await forty.hear(quarter, half)
    assert await forty.wanting() == forty.expected(2 * QUARTER) > forty.expected(QUARTER)
    await forty.hear(quarter)  # replayed
    assert await forty.wanting() == forty.expected(2 * QUARTER)
    await forty.hear(quarter, half, Change(hold=Hold.HELD))
    assert await forty.wanting() == set()
    await forty.hear(quarter, half, Change(hold=Hold.HELD), Change(share=ALL, hold=Hold.GO_ON))
    assert await forty.wanting() == set(forty.rules)


async def test_steps_after_the_brake_open_it_for_nobody(forty: Forty) -> None:
    first = first_word(forty.fleet.key, forty.info, [here().name], Change(hold=Hold.HELD))
    steps, brake = steps_and_brake(first, forty.fleet.key, [100, QUARTER, ALL], Change(stable=None), made=0)
    for word, expected in ((steps[0], 100), (steps[1], QUARTER), (brake, 0), (steps[2], 0)):
        mine = word.for_target(here().name)
        assert mine is not None
        for rule in forty.rules.values():
            assert rule.word is not None
            await rule.word.hear(mine.encode())
        assert await forty.wanting() == forty.expected(expected)
