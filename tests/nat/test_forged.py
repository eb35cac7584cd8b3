"""A fleet of real processes among forged addresses: the honest update passes, and the victim hardly notices.

Until a third of the fleet has the release; ``make nat-lab`` waits for all of it, in three such fleets.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.nat.forged import NODE, Suffered, suffer, told

pytestmark = pytest.mark.timeout(1000)

ENOUGH = 6


@pytest.fixture(scope="module")
def suffered() -> Suffered:
    (result,) = asyncio.run(suffer([NODE], ENOUGH))
    print(f"\n{told([result])}")
    return result


def test_the_honest_update_passes(suffered: Suffered) -> None:
    assert len(suffered.seconds) >= ENOUGH


def test_the_victim_gets_ten_packets_a_minute_from_a_whole_fleet(suffered: Suffered) -> None:
    assert suffered.answers > 0
    assert suffered.minute <= 10


def test_a_device_needs_no_more_memory_for_it(suffered: Suffered) -> None:
    assert suffered.megabytes < 100
