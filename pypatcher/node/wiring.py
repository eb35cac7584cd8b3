"""The updater at work on the network: how it looks, whom it fetches from, and the port that others reach us at.

What a node, which updates a program, and the command ``fetch``, which has none yet, have in common.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

from pypatcher.addresses import format_address
from pypatcher.artifact import PatchInfo
from pypatcher.backoff import jittered
from pypatcher.discovery.candidates import Candidate, Candidates
from pypatcher.events import Emit, PortMapped
from pypatcher.nat.portmap import Mapping as PortMapping
from pypatcher.node.network import Network
from pypatcher.node.peers import Fleet
from pypatcher.settings import Settings
from pypatcher.tasks import keep_running
from pypatcher.transfer.download import Destination
from pypatcher.transfer.peer_budget import FetchBudget
from pypatcher.update.updater import Known, Updater

__all__ = ["keep_looking", "keep_port_open", "network_updater"]

_PAUSES = (1.0, 300.0)


def network_updater(
    network: Network,
    fleet: Fleet | None,
    candidates: Candidates,
    destination: Destination,
    settings: Settings,
    *,
    emit: Emit,
    budget: FetchBudget,
    on_staged: Callable[[PatchInfo], Awaitable[None]],
    rng: random.Random,
    known: Known | None = None,
    on_look: Callable[[int], None] = lambda _: None,
    stranger_jitter: float = 60.0,
) -> Updater:
    """An updater that hears of releases in slots and by ``fleet``, and fetches them over ``network``.

    Args:
        fleet: None where the namespace knows no meetings.
        candidates: those of ``fleet``.
        on_look: told how many a look found.
    """

    async def look() -> None:
        found = await network.look()
        if fleet is not None:
            fleet.hear(found)
        else:
            candidates.add(found, time.monotonic())
        on_look(len(found))

    async def fetch(candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]) -> PatchInfo:
        # Anyone may write anyone's address into a record, so what answers there need not be the node that was
        # heard; the release that it sends is the announced one, or nothing.
        return await network.fetch(candidate.address, None, candidate.info, write, lambda done, _total: progress(done))

    return Updater(
        look=look,
        fetch=fetch,
        destination=destination,
        known=Known() if known is None else known,
        candidates=candidates,
        budget=budget,
        settings=settings,
        emit=emit,
        on_staged=on_staged,
        clock=time.monotonic,
        rng=rng,
        ways=None if fleet is None else fleet.ways,
        on_wanted=(lambda _: None) if fleet is None else fleet.want,
        stranger_jitter=stranger_jitter,
    )


async def keep_port_open(network: Network, fleet: Fleet | None, settings: Settings, emit: Emit) -> None:
    """Have the routers open our ports until cancelled, if the settings say so; one's failure ends no other's."""

    def changed(mapping: PortMapping | None) -> None:
        if mapping is not None:
            emit(PortMapped(mapping.protocol, format_address(mapping.address)))
        if fleet is not None:
            fleet.moved()

    if settings.port_mapping:
        async with asyncio.TaskGroup() as tasks:
            for mapper in network.mappers:
                tasks.create_task(keep_running("port mapping", partial(mapper.run, changed), _PAUSES))


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
