"""The swarm: who has a release and who wants it, by ``announce_peer`` and ``get_peers`` (BEP 5) on two info-hashes.

design.md "Discovery" (swarm). Both sides announce, from the one socket with implied_port, so each learns the other's
outside address. What is visited when is ``SwarmSchedule``'s, which knows neither sockets nor tasks; ``Swarm`` is the
thin shell that visits. An address from here is a hint by strangers and no more.

    namespace   SHA-1(topic_hash || "swarm")
    release     SHA-1(topic_hash || "release" || version text || hash)
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pypatcher.artifact import PatchInfo
from pypatcher.backoff import JITTER, Backoff, jittered
from pypatcher.dht import Contact, PeersLookup
from pypatcher.discovery.namespace import Namespace, namespace_hash, release_hash
from pypatcher.discovery.sources.source import AddressLimits, Found, Listener, SourceHost, Surroundings
from pypatcher.errors import PatcherError
from pypatcher.waiting import wait_at_most

__all__ = ["EVERYBODY", "HOLDERS", "Swarm", "SwarmSchedule", "Visit", "swarm_source"]

_log = logging.getLogger("pypatcher")

HOLDERS = AddressLimits("release swarm", room=512, knocks=6)
EVERYBODY = AddressLimits("namespace swarm", room=256, knocks=4)

_SERVING, _AT_REST = 300.0, 1680.0
_FRESH = 600.0
_GLANCED = 2
_NEAREST = 10
_WANTING, _WANTING_LONG = 55.0, 600.0
_FIRST_RETRY, _SECOND_VISIT = 2.0, 5.0
_RELEASES = 4
_VISIT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Visit:
    """An info-hash to announce on and to ask at.

    Attributes:
        release: whose info-hash it is; None is the namespace's.
    """

    info_hash: bytes
    release: PatchInfo | None


@dataclass(slots=True)
class _Place:
    visit: Visit
    since: float
    next: float
    glance: float = float("inf")
    visits: int = 0
    retry: Backoff = field(default_factory=lambda: Backoff(_FIRST_RETRY, _SERVING))


class SwarmSchedule:
    """Which info-hash is due: the namespace's, that of the release we hold, those of at most 4 that we want.

    A new place is due at once. While something is wanted its release and the namespace come round every ``interval``
    (55 s by default, 300 s after 10 minutes of wanting in vain), else every 300 s for 10 minutes and then every 28
    minutes, for announcements live 32 or more. Between those visits 2 of the nodes that keep the namespace are asked
    every 300 s who is new there. A visit that reached nobody is repeated after 2 s, then ever later. The namespace is
    visited once more 5 s after the first time: who started together with others finds them there only then. Every pause
    is jittered by a tenth. Times are monotonic seconds.

    Args:
        interval: between visits while wanting; None for the default.
        may_rest: the pauses grow while nothing is wanted.
        is_metered: nothing is visited but while something is wanted, and then each time a quarter later.
    """

    def __init__(
        self,
        namespace: Namespace,
        rng: random.Random,
        *,
        interval: float | None = None,
        is_metered: bool = False,
        may_rest: bool = True,
    ) -> None:
        self._may_rest = may_rest
        self._is_metered = is_metered
        self._namespace = namespace
        self._rng = rng
        self._interval = interval
        self._held: PatchInfo | None = None
        self._wanted: dict[PatchInfo, None] = {}
        self._places: dict[bytes, _Place] = {}

    def announce(self, info: PatchInfo | None, now: float) -> None:
        """Serve this release from now on."""
        self._held = info
        if info is not None:
            self._wanted.pop(info, None)
        self._settle(now)

    def want(self, releases: Iterable[PatchInfo], now: float) -> None:
        """Want these from now on, the newest first, and no others."""
        self._wanted = dict.fromkeys(list(releases)[:_RELEASES])
        self._settle(now)

    @property
    def everybody(self) -> Visit:
        """Where everybody of the namespace announces."""
        return Visit(namespace_hash(self._namespace), None)

    def restart(self, now: float) -> None:
        """Everything is due at once: our address changed."""
        for place in self._places.values():
            place.next = now

    def due(self, now: float) -> list[Visit]:
        """What to visit now."""
        self._settle(now)
        return [place.visit for place in self._places.values() if place.next <= now]

    def visited(self, visit: Visit, reached: int, now: float) -> None:
        """A visit ended; ``reached`` DHT nodes keep our announcement."""
        place = self._places.get(visit.info_hash)
        if place is None:
            return
        pause = self._pause(place, now)
        if not reached:
            pause = min(pause, place.retry.fail())
        else:
            place.retry.succeed()
            if visit.release is None and not place.visits:
                pause = min(pause, _SECOND_VISIT)
            place.visits += 1
        place.next = now + jittered(pause, self._rng)
        if visit.release is None and not self._is_metered:
            place.glance = now + jittered(_SERVING, self._rng)

    def takes_glance(self, now: float) -> bool:
        """Whether it is time for a glance at the namespace; if so the next one is later."""
        place = self._places.get(self.everybody.info_hash)
        if self._is_metered or place is None or place.glance > now or place.next <= now:
            return False
        place.glance = now + jittered(_SERVING, self._rng)
        return True

    def is_at_rest(self, visit: Visit, now: float) -> bool:
        """Whether it is one of many visits to the swarm of a release that is held and that is new to nobody."""
        place = self._places.get(visit.info_hash)
        return place is not None and bool(visit.release) and self._pause(place, now) == _AT_REST

    def wait(self, now: float) -> float:
        """Seconds until something is due."""
        return max(
            0.0, min((min(place.next, place.glance) for place in self._places.values()), default=now + _AT_REST) - now
        )

    def _settle(self, now: float) -> None:
        held = [self._held] if self._held and not self._is_metered else []
        visits = [self.everybody] if self._wanted or not self._is_metered else []
        visits += [Visit(release_hash(self._namespace, info), info) for info in [*held, *self._wanted]]
        self._places = {
            visit.info_hash: self._places.get(visit.info_hash) or _Place(visit, now, now) for visit in visits
        }
        if self._wanted:
            # Whoever begins to want does not wait for the end of a pause that was meant for quiet times.
            latest = now + (self._interval or _WANTING) * (1 + JITTER)
            for place in self._places.values():
                if self._is_wanting(place) and now - place.since < _WANTING_LONG:
                    place.next = min(place.next, latest)

    def _is_wanting(self, place: _Place) -> bool:
        return bool(self._wanted) and (place.visit.release is None or place.visit.release in self._wanted)

    def _pause(self, place: _Place, now: float) -> float:
        if self._interval is not None:
            return min(self._interval, _SERVING) if self._is_wanting(place) or not place.visit.release else _SERVING
        if self._is_metered:
            return max(_WANTING, (now - place.since) / 4)
        if self._is_wanting(place):
            return _WANTING if now - place.since < _WANTING_LONG else _SERVING
        return _AT_REST if self._may_rest and now - place.since >= _FRESH else _SERVING


class Swarm:
    """A source of addresses: announces and asks where it is due, and remembers the storing nodes.

    Args:
        host: whose DHT is asked, once that has somebody to ask, and which port is announced.
        clock: monotonic seconds.
    """

    name = "swarm"
    limits: Sequence[AddressLimits] = (HOLDERS, EVERYBODY)

    def __init__(
        self,
        host: SourceHost,
        schedule: SwarmSchedule,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._rng = rng
        self._host = host
        self._schedule = schedule
        self._clock = clock
        self._near: dict[bytes, tuple[Contact, ...]] = {}
        self._held: PatchInfo | None = None
        self._wanted: frozenset[PatchInfo] = frozenset()
        self._visits = 0
        self._changed = asyncio.Event()

    def announce(self, info: PatchInfo | None) -> None:
        """See ``SwarmSchedule.announce``; at once."""
        if info != self._held:
            self._held = info
            self._schedule.announce(info, self._clock())
            self._changed.set()

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """See ``SwarmSchedule.want``; at once."""
        wanted = frozenset(releases or ())
        if wanted != self._wanted:
            self._wanted = wanted
            self._schedule.want(releases or (), self._clock())
            self._changed.set()

    def address_changed(self) -> None:
        """Announce everything anew."""
        self._schedule.restart(self._clock())
        self._changed.set()

    async def look(self) -> Found:
        """Who announced under the namespace."""
        await self._host.joined()
        try:
            async with asyncio.timeout(_VISIT_TIMEOUT):
                lookup = await self._host.dht.find_peers(self._schedule.everybody.info_hash)
        except (PatcherError, OSError) as error:
            _log.debug("a look at the swarm failed: %s", error)
            return Found(EVERYBODY)
        return Found(EVERYBODY, lookup.peers)

    async def run(self, listener: Listener) -> None:
        """Visit until cancelled."""
        while True:
            self._changed.clear()
            await self._host.joined()
            due = self._schedule.due(self._clock())
            if self._schedule.takes_glance(self._clock()):
                await self._glance(listener)
            await asyncio.gather(*(self._visit(visit, listener) for visit in due))
            await wait_at_most(self._changed, max(0.05, self._schedule.wait(self._clock())))

    async def _glance(self, listener: Listener) -> None:
        """Ask some of the nodes that keep the namespace's announcements who is there."""
        info_hash = self._schedule.everybody.info_hash
        near = self._near.get(info_hash, ())
        some = self._rng.sample(near, min(_GLANCED, len(near)))
        listener.hear(Found(EVERYBODY, await self._host.dht.ask_for_peers(info_hash, some)))

    async def _visit(self, visit: Visit, listener: Listener) -> None:
        reached = 0
        try:
            async with asyncio.timeout(_VISIT_TIMEOUT):
                near = self._near.get(visit.info_hash, ())
                at_rest = bool(near) and self._schedule.is_at_rest(visit, self._clock())
                lookup = await self._host.dht.find_peers(visit.info_hash, near, most=_NEAREST if at_rest else None)
                self._remember(visit, lookup)
                listener.hear(self._met(visit, lookup))
                reached = await self._host.dht.announce_peer(visit.info_hash, self._host.mapped_port(), at=lookup)
        except (PatcherError, OSError) as error:
            _log.debug("a visit to the swarm failed: %s", error)
        self._schedule.visited(visit, reached, self._clock())

    def _met(self, visit: Visit, lookup: PeersLookup) -> Found:
        """Ourselves may be among them."""
        if visit.release is not None:
            return Found(HOLDERS, lookup.peers, may_hold_wanted=visit.release in self._wanted)
        # Who starts together with others finds nobody at first, and must not take the fleet for small.
        crowd = lookup.confirmed if self._visits else None
        self._visits += bool(lookup.nodes)
        return Found(EVERYBODY, lookup.peers, crowd=crowd, is_answer=bool(lookup.nodes))

    def _remember(self, visit: Visit, lookup: PeersLookup) -> None:
        self._near.pop(visit.info_hash, None)
        self._near[visit.info_hash] = tuple(node.contact for node in lookup.nodes)
        while len(self._near) > _RELEASES + 4:
            del self._near[next(iter(self._near))]


def swarm_source(around: Surroundings) -> Swarm | None:
    """Of namespaces whose nodes meet."""
    host = around.host
    if not host.namespace.meets:
        return None
    schedule = SwarmSchedule(
        host.namespace,
        around.rng,
        interval=around.settings.look_interval,
        is_metered=around.settings.metered,
        may_rest=around.may_rest,
    )
    return Swarm(host, schedule, around.clock, around.rng)
