"""The owner's desk: a word is put into the network without a device, steps open in time, and a newer word wins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, next_word, steps_and_brake
from pypatcher.errors import ManifestError, PeerError
from pypatcher.node.publish import Keepers, Steps, publish_word, view_pointer
from tests.support.dht_network import DhtNetwork
from tests.support.manifests import OWNER, OWNER_KEY, TARGET, file_word
from tests.support.node_fakes import run_alone
from tests.support.pointer_lab import PointerLab, forges_the_highest_seq

FIRST = file_word("2.0.0", change=Change(share=0))
SECOND = next_word(FIRST, OWNER, Change(share=100), made=1)
PLAN, BRAKE = steps_and_brake(FIRST, OWNER, [100, 1000, 10_000], Change(), made=1)
DAY = 86400.0


def test_what_is_published_is_kept_and_shown() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            desk = lab.device().node
            assert (await view_pointer(desk, OWNER_KEY, TARGET)).newest is None
            kept = await publish_word(desk, FIRST)
            assert kept[TARGET].nodes >= 15
            assert kept[TARGET].networks >= 15
            view = await view_pointer(lab.device().node, OWNER_KEY, TARGET)
            assert view.newest == FIRST.for_target(TARGET)
            assert (await publish_word(desk, SECOND))[TARGET].nodes >= 15

    run_alone(body())


def test_a_newer_word_refuses_what_is_published() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            desk = lab.device().node
            await publish_word(desk, SECOND)
            for older in (FIRST, next_word(FIRST, OWNER, Change(share=200), made=1)):
                with pytest.raises(ManifestError, match="the network shows"):
                    await publish_word(desk, older)
            assert (await view_pointer(desk, OWNER_KEY, TARGET)).newest == SECOND.for_target(TARGET)

    run_alone(body())


def test_junk_with_the_highest_seq_refuses_nothing() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            lab.besiege(forges_the_highest_seq)
            assert (await publish_word(lab.device().node, FIRST))[TARGET].nodes >= 8

    run_alone(body())


def test_where_nobody_answers_nothing_is_said_to_be_published() -> None:
    async def body() -> None:
        net = DhtNetwork()
        with pytest.raises(PeerError, match="no DHT node answers"):
            await publish_word(net.add(), FIRST)
        await net.stop()

    run_alone(body())


def test_steps_open_in_time_and_go_on_after_a_restart(tmp_path: Path) -> None:
    async def body() -> None:
        async with PointerLab(60) as lab:
            loop = asyncio.get_running_loop()
            opened: list[tuple[int, int]] = []

            def said(word: ManifestFile, kept: dict[str, Keepers]) -> None:
                assert kept[TARGET].nodes >= 8
                opened.append((word.terms.share, round(loop.time() / 3600)))

            def steps() -> Steps:
                return Steps(PLAN, tmp_path / "app.steps.opened", DAY, lambda: 1e9 + loop.time(), said)

            first = asyncio.create_task(steps().run(lab.device().node))
            await asyncio.sleep(DAY + 6 * 3600)
            first.cancel()
            assert opened == [(100, 0), (1000, 24)]
            await steps().run(lab.device().node)
            assert opened == [(100, 0), (1000, 24), (1000, 30), (10_000, 48)]

    run_alone(body())


def test_the_brake_ends_steps_and_is_not_passed(tmp_path: Path) -> None:
    async def body() -> None:
        async with PointerLab(60) as lab:
            loop, desk = asyncio.get_running_loop(), lab.device().node
            steps = Steps(PLAN, tmp_path / "app.steps.opened", DAY, lambda: 1e9 + loop.time(), lambda *_: None)
            running = asyncio.create_task(steps.run(desk))
            await asyncio.sleep(3600)
            await publish_word(lab.device().node, BRAKE)
            with pytest.raises(ManifestError, match="the network shows"):
                await running
            with pytest.raises(ManifestError, match="the network shows"):
                await steps.run(desk)
            assert (await view_pointer(desk, OWNER_KEY, TARGET)).newest == BRAKE.for_target(TARGET)

    run_alone(body())
