"""How fast and how much a device takes, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from pypatcher.addresses import Address
from pypatcher.budgets.intake import Intake
from pypatcher.budgets.peer_budget import FetchBudget
from pypatcher.transfer import StallRule
from pypatcher.transfer.stall import StallWatch
from pypatcher.transfer.taking import CHUNK, read_watched
from pypatcher.transport.stream import Stream
from tests.support.node_fakes import run_alone
from tests.support.transport import ManualClock

KIB, MIB = 1 << 10, 1 << 20
FAR, NEAR = ("20.0.0.1", 1), ("192.168.0.9", 1)


class _Endless:
    """A stream that always has more."""

    def __init__(self, peer_address: Address) -> None:
        self.peer_address = peer_address

    async def read(self, limit: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(limit)


async def take(intake: Intake, seconds: float, *peers: Address, piece: int = CHUNK) -> list[int]:
    """What each of some fetches took in so many seconds."""
    clock = asyncio.get_running_loop().time
    taken = [0 for _ in peers]

    async def fetch(number: int) -> None:
        stream = cast("Stream", _Endless(peers[number]))
        watch = StallWatch(StallRule(seconds=60.0, intake=intake), clock)
        while watch.remaining():
            taken[number] += len(await read_watched(stream, piece, watch))

    tasks = [asyncio.create_task(fetch(number)) for number in range(len(peers))]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        assert not task.done()
        task.cancel()
    return taken


async def on_loop(rate: int, seconds: float, *peers: Address) -> list[int]:
    return await take(Intake(rate, clock=asyncio.get_running_loop().time), seconds, *peers)


@pytest.mark.parametrize("rate", [64 * KIB, 1_000_000])
def test_a_fetch_keeps_the_rate_and_does_not_stall(rate: int) -> None:
    [taken] = run_alone(on_loop(rate, 600.0, FAR))
    assert 0.99 * 600 * rate <= taken <= 600 * rate + rate // 4 + CHUNK


def test_fetches_side_by_side_share_the_rate_alike() -> None:
    taken = run_alone(on_loop(MIB, 600.0, FAR, ("21.0.0.1", 1), ("22.0.0.1", 1)))
    assert sum(taken) <= 601 * MIB
    assert max(taken) < 1.05 * min(taken)


def test_the_lan_is_not_held_back() -> None:
    intake = Intake(64 * KIB, 100 * MIB, clock=ManualClock(1000.0))
    assert intake.took(1 << 40, NEAR) == 0.0
    assert intake.wait(FAR) == 0.0
    assert intake.took(10, FAR) == 0.0


def test_no_fetch_from_outside_begins_once_the_day_is_used_up(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(1000.0)
    intake = Intake(day=10 * MIB, clock=clock)
    budget = FetchBudget(intake)
    with caplog.at_level(logging.WARNING):
        assert intake.took(10 * MIB - 1, FAR) == 0.0
        assert budget.wait("release", FAR, clock.now) == 0.0
        intake.took(1, FAR)
        assert budget.wait("release", FAR, clock.now) > 0.0
        assert budget.wait("release", NEAR, clock.now) == 0.0
        clock.now += 12 * 3600
        assert budget.wait("release", FAR, clock.now) > 0.0
    assert [record.getMessage() for record in caplog.records] == [
        "no release is fetched from outside the LAN: the day's 10485760 bytes are used up"
    ]
    clock.now += 13 * 3600
    assert budget.wait("release", FAR, clock.now) == 0.0


def test_without_limits_nothing_waits() -> None:
    intake = Intake()
    assert intake.took(1 << 50, FAR) == 0.0
    assert intake.wait(FAR) == 0.0
