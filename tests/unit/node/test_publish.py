"""The owner's desk: a word is put into the network without a device, steps open in time, and a newer word wins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, next_word, steps_and_brake
from pypatcher.dht import Contact, DhtNode, ItemLookup
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


def steps_at(
    folder: Path,
    now: Callable[[], float],
    say: Callable[[ManifestFile, dict[str, Keepers]], None] = lambda *_: None,
) -> Steps:
    return Steps(PLAN, folder / "app.steps.opened", DAY, now, say, uptime=asyncio.get_running_loop().time)


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
                return steps_at(tmp_path, lambda: 1e9 + loop.time(), said)

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
            steps = steps_at(tmp_path, lambda: 1e9 + loop.time())
            running = asyncio.create_task(steps.run(desk))
            await asyncio.sleep(3600)
            await publish_word(lab.device().node, BRAKE)
            with pytest.raises(ManifestError, match="the network shows"):
                await running
            with pytest.raises(ManifestError, match="the network shows"):
                await steps.run(desk)
            assert (await view_pointer(desk, OWNER_KEY, TARGET)).newest == BRAKE.for_target(TARGET)

    run_alone(body())


def test_a_clock_that_is_set_opens_no_step_early(tmp_path: Path) -> None:
    async def body() -> None:
        async with PointerLab(60) as lab:
            loop, opened = asyncio.get_running_loop(), list[int]()

            def begins_in_1970() -> float:
                return loop.time() if loop.time() < 2 * 3600 else 1e9 + loop.time()

            def said(word: ManifestFile, _: dict[str, Keepers]) -> None:
                opened.append(word.terms.share)

            (tmp_path / "app.steps.opened").write_text(f"{PLAN[0].seq} {1e9:.0f}\n")
            running = asyncio.create_task(steps_at(tmp_path, begins_in_1970, said).run(lab.device().node))
            await asyncio.sleep(DAY - 3600)
            assert opened == [100]
            await asyncio.sleep(2 * 3600)
            assert opened == [100, 1000]
            running.cancel()

    run_alone(body())


def test_steps_wait_for_a_network_that_is_gone(tmp_path: Path) -> None:
    async def body() -> None:
        async with PointerLab(60) as lab:
            loop, desk = asyncio.get_running_loop(), _Unplugged(lab.device().node)
            running = asyncio.create_task(steps_at(tmp_path, lambda: 1e9 + loop.time()).run(desk))
            await asyncio.sleep(3600)
            desk.is_out = True
            await asyncio.sleep(3 * 3600)
            assert not running.done()
            desk.is_out = False
            await running
            assert (await view_pointer(desk, OWNER_KEY, TARGET)).newest == PLAN[-1].for_target(TARGET)

    run_alone(body())


class _Unplugged:
    """A DHT that nobody answers for a while."""

    def __init__(self, node: DhtNode) -> None:
        self.node, self.is_out = node, False
        self.ask_storers, self.put_mutable = node.ask_storers, node.put_mutable

    async def find_item(
        self, public_key: bytes, salt: bytes, *, known: int | None = None, near: Iterable[Contact] = ()
    ) -> ItemLookup:
        if self.is_out:
            return ItemLookup(b"", (), (), (), 0.0)
        return await self.node.find_item(public_key, salt, known=known, near=near)
