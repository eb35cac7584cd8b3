"""An attacker who wants a fleet to stay on its old release does not keep it there; ``python -m tests.nat frozen``."""

from __future__ import annotations

import asyncio

import pytest

from tests.nat.frozen import freeze, shown

pytestmark = pytest.mark.timeout(1000)


def test_a_besieged_fleet_updates_as_one_in_peace_does() -> None:
    runs = asyncio.run(freeze(1))
    print(f"\n{shown(runs)}")
    assert all(each.has_thawed for each in runs)
