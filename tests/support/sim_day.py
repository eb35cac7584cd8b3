"""What makes a simulated device one that has been on for a day, without the traffic of that day.

It knows its outside address and who keeps the pointer and the swarm, heard the owner, is announced, and its next look,
visit and publication come when they come. A device that starts later in a simulation starts as any device does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from pypatcher.addresses import Address
from pypatcher.dht import Contact, DhtNode
from pypatcher.discovery.sources import Listener
from pypatcher.discovery.sources.pointer import Pointer
from pypatcher.discovery.sources.slots import SlotSource
from pypatcher.discovery.sources.swarm import Swarm
from pypatcher.settings import Settings
from pypatcher.update.word import OwnersWord
from pypatcher.waiting import wait_at_most

__all__ = ["has_run_for_a_day", "is_known_everywhere", "settings_of_a_day"]

_DAY, _HOUR, _LOOK = 86_400.0, 3600.0, 300.0
_VISITS, _PUBLICATIONS, _UNFILTERED = 1680.0, 2 * _HOUR, 6 * _HOUR
_VOTES = 8


class _LongUp(Settings):
    rng: random.Random

    def pause_between_looks(self, uptime: float) -> float:
        """The first one is due within a look; the early ones are over."""
        return self.rng.uniform(0.0, _LOOK) if uptime < 1.0 else super().pause_between_looks(uptime + _DAY)


def settings_of_a_day(rng: random.Random) -> Settings:
    """Without entry points, so that the pointer is not read as at a start."""
    settings = _LongUp(bootstrap=(), port_mapping=False, lan=False)
    object.__setattr__(settings, "rng", rng)
    return settings


def is_known_everywhere(
    node: DhtNode, acquaintances: Sequence[Contact], seen_at: Callable[[Address], Address], rng: random.Random
) -> None:
    """Fill its table; others have told where they see it; it looks after its table within the hour, and not at once."""
    node.introduce(acquaintances)
    for contact in acquaintances[:_VOTES]:
        node._votes.add(contact.address, seen_at(contact.address))
    maintenance = node._maintenance
    keep_refreshed = maintenance._keep_refreshed

    async def begin_later() -> None:
        await asyncio.sleep(rng.uniform(0.0, _HOUR))
        await keep_refreshed()

    maintenance._keep_refreshed = begin_later  # type: ignore[method-assign]


def has_run_for_a_day(
    sources: Sequence[object],
    word: OwnersWord,
    nearest: Callable[[bytes], tuple[Contact, ...]],
    rng: random.Random,
    *,
    own: tuple[Address, ...],
    pointer_names: Sequence[bytes],
) -> None:
    """Have these sources go on as on the second day.

    Args:
        nearest: who keeps what is stored under a name.
        own: where others reach it.
    """
    now = time.monotonic()
    word.contact.heard = now - rng.uniform(0.0, _UNFILTERED)
    for source in sources:
        if isinstance(source, Pointer):
            schedule = source._schedule
            schedule._unfiltered = word.contact.heard
            for position, name in enumerate(pointer_names):
                schedule.answered(position, nearest(name), nearest(name), is_whole=True)
                schedule._positions[position].kept_alive = now - rng.uniform(0.0, _HOUR)
        elif isinstance(source, Swarm):
            for name, place in source._schedule._places.items():
                source._near[name] = nearest(name)
                place.since, place.visits = now - _DAY, 1
                place.next = now + rng.uniform(0.0, _VISITS)
                if place.visit.release is None:
                    place.glance = now + rng.uniform(0.0, _LOOK)
        elif isinstance(source, SlotSource):
            source._published = own
            _rest(source, rng)


def _rest(slots: SlotSource, rng: random.Random) -> None:
    """What it holds was first said long ago, what it will hold is new; nothing was missing."""
    publisher, held, rest = slots._publisher, slots._held, slots._rest
    publisher._rest = lambda said_for: rest(said_for + (_DAY if slots._held == held else 0.0))
    keep_publishing, keep_looking = publisher.run, slots._keep_looking

    async def publish_later() -> None:
        publisher._changed.clear()
        await wait_at_most(publisher._changed, rng.uniform(0.0, _PUBLICATIONS))
        await keep_publishing()

    async def look_later(listener: Listener) -> None:
        await wait_at_most(slots._is_missing_something, rng.uniform(0.0, _HOUR))
        await keep_looking(listener)

    publisher.run = publish_later  # type: ignore[method-assign]
    slots._keep_looking = look_later  # type: ignore[method-assign]
