"""Killed or cut off from power ten times, a fetch from several peers costs hardly more bytes than undisturbed.

On virtual time; ``bench/interrupted.py`` tells the same of any size, number and chance.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.interrupted import Cost, fetch
from tests.support.node_fakes import run_alone

SIZE = 36_000_000
RATE = 43_000
TIMES = 10


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Cost:
    return run_alone(fetch(tmp_path_factory.mktemp("once"), SIZE, rate=RATE))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["kills", "cuts"])
def test_ten_interruptions_cost_at_most_a_33rd(how: str, undisturbed: Cost, tmp_path: Path) -> None:
    cost = run_alone(fetch(tmp_path, SIZE, rate=RATE, **{how: TIMES}))
    assert cost.times == TIMES
    assert undisturbed.sent < cost.sent < undisturbed.sent * 1.03
