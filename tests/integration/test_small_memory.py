"""A device with little memory updates a program larger than that, which itself uses most of what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.large_update import Cage, LargeUpdate


@pytest.mark.timeout(1800)
def test_half_a_gibibyte_is_updated_beside_an_app_of_350_mb(tmp_path: Path) -> None:
    with Cage.of(512) as cage, LargeUpdate(tmp_path, 512, new=16) as update:
        used = update.run(cage, beside=350)
    print(f"{cage.kind}: {used}")
    assert max(used.above_idle(who) for who in ("giver", "taker")) < 60
