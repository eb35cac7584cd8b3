"""Whoever keeps the owner's word from a device that ever knew one moves it nowhere, whatever became of its own copy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pypatcher.artifact.rollout import Change, first_word
from pypatcher.update.orders import word_name
from tests.support.devices import Device, LoopbackFleet, here


def keep(_word: Path) -> None:
    """It is as it was."""


def tear(word: Path) -> None:
    word.write_bytes(word.read_bytes()[:20])


DAMAGE = {"kept": keep, "torn": tear, "lost": Path.unlink}


async def knowing(world: LoopbackFleet, program: Path, damage: Callable[[Path], object]) -> Device:
    """A device that knew a word about what it runs, after a restart in which its copy is damaged so."""
    _, info = world.release("1.0.0")
    device = world.device(program, manifest=first_word(world.key, info, [here().name], Change()))
    await device.wait_for("node.started")
    await device.stop()
    word = device.path.parent / ".app.pypatcher" / f"manifest-{word_name(world.owner)}"
    damage(word)
    device.path.with_name("app.manifest").unlink()
    device.start()
    return device


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_release_without_the_owners_word_is_not_taken(world: LoopbackFleet, damage: str) -> None:
    """The attack: a true release is announced, offered and given, and every word of the owner's is withheld."""
    (old, _), (new, info) = world.release("1.0.0"), world.release("2.0.0")
    device = await knowing(world, old, DAMAGE[damage])
    world.device(new)
    await asyncio.sleep(6.0)  # twenty looks: a device that never knew a word has it by then
    assert "fetch.started" not in device.names()
    assert device.restart() == "1.0.0"
    await device.hear(first_word(world.key, info, [here().name], Change()))
    await device.wait_for("release.staged")
    assert device.restart() == "2.0.0"
