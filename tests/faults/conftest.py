"""What the tests of hostile peers share: a world with a device in it, and a server under attack."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.devices import Device, LoopbackFleet, open_fleet
from tests.support.siege import Siege, open_siege


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as made:
        yield made


@pytest.fixture
async def device(world: LoopbackFleet) -> AsyncIterator[Device]:
    """A device at 1.0.0, whose node goes on whatever is done to it."""
    made = world.device(world.release("1.0.0")[0])
    yield made
    assert not made.task.done()


@pytest.fixture
async def honest(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Siege]:
    """A server that an honest peer fetches from during the attack and after it."""
    async with open_siege(tmp_path, request.node.name.removeprefix("test_")) as siege:
        yield siege
