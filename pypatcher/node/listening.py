"""Hears of releases without taking any: the slots are looked into, and who is named there is met.

For ``seed``, which has what it has, and for ``fetch --check``, which only asks. An updater does the same for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from pypatcher.node.candidates import Candidates
from pypatcher.node.fleet import Fleet
from pypatcher.node.network import Network
from pypatcher.node.settings import Settings
from pypatcher.node.tasks import keep_running
from pypatcher.pauses import jittered

__all__ = ["at_work", "keep_looking"]


async def keep_looking(
    network: Network, fleet: Fleet | None, candidates: Candidates, settings: Settings, rng: random.Random
) -> None:
    """Look into the slots until cancelled, as often as a device does.

    Args:
        fleet: None where the namespace knows no meetings.
        candidates: those of ``fleet``; what is heard goes there.
    """
    started = time.monotonic()
    while True:
        found = await network.look()
        if fleet is not None:
            fleet.hear(found)
        else:
            candidates.add(found, time.monotonic())
        await asyncio.sleep(jittered(settings.pause_between_looks(time.monotonic() - started), rng))


@contextlib.asynccontextmanager
async def at_work(
    parts: Mapping[str, Callable[[], Coroutine[Any, Any, None]]], pauses: tuple[float, float]
) -> AsyncIterator[None]:
    """Keep these parts of a node running during the block; see ``keep_running``."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(keep_running(name, run, pauses), name=f"pypatcher {name}") for name, run in parts.items()
        ]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
