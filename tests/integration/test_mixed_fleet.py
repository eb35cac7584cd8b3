"""Devices of the code before manifests beside those of today: each takes from the other, and the owner's word holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pypatcher.artifact.rollout import Change, next_word
from pypatcher.artifact.terms import ALL
from tests.support.mixed_fleet import FIRST, has_history, open_mixed, until
from tests.support.updates import KEY, NEW, OLD

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not has_history(), reason="a shallow clone has no older code: git fetch --unshallow"),
]
ONE_PER_CENT = 100


async def test_a_share_leaves_old_code_alone_and_opened_all_have_it(tmp_path: Path) -> None:
    async with open_mixed(tmp_path, old=2, new=2, told={"new-0": FIRST}) as fleet:
        word = fleet.word(Change(share=ONE_PER_CENT))
        fleet.hold(NEW, is_old=False, word=word)
        await until(lambda: fleet.know(word), "all of the new code know the share")
        named = fleet.named(ONE_PER_CENT)
        await until(lambda: fleet.updated() == named, "those of the share")
        await asyncio.sleep(3.0)  # looks of half a second: what is named in the slots, all would know by now
        assert fleet.updated() == named
        assert not any(fleet.said(name, "release.found") for name in fleet.names - named)
        opened = next_word(word, KEY, Change(share=ALL), made=0)
        await asyncio.to_thread(fleet.publish, opened)
        await until(lambda: fleet.updated() == fleet.names, "all of them, once it is open")


@pytest.mark.parametrize("has_word", [False, True])
async def test_old_and_new_code_take_a_release_from_old_code(tmp_path: Path, has_word: bool) -> None:
    async with open_mixed(tmp_path, old=1, new=1) as fleet:
        if has_word:
            word = fleet.word(Change())
            fleet.hold(OLD, is_old=False, word=word)  # it has the word, and not the release
            await until(lambda: fleet.know(word), "the new code knows the word")
        fleet.hold(NEW, is_old=True)
        await until(lambda: fleet.updated() == fleet.names, "both")


async def test_old_and_new_code_take_a_release_from_new_code(tmp_path: Path) -> None:
    async with open_mixed(tmp_path, old=1, new=1) as fleet:
        fleet.hold(NEW, is_old=False)
        await until(lambda: fleet.updated() == fleet.names, "both")
