"""The minute slots as a source of addresses: looks into them while somebody here takes releases, and publishes.

How a slot is read and written stands in ``discovery.tracker`` and ``discovery.publisher``; here is only when.
design.md "Discovery".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from functools import partial

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.backoff import JITTER, jittered
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.publisher import Publisher
from pypatcher.discovery.sources.source import AddressLimits, Found, Listener, Surroundings
from pypatcher.discovery.tracker import Published, Tracker
from pypatcher.tasks import keep_running
from pypatcher.waiting import wait_at_most

__all__ = ["RECORDS", "SlotSource", "slot_source"]

_PAUSES = (1.0, 300.0)
_EARLY, _QUIET, _SHORTEST = 600.0, 3600.0, 300.0
"""Between looks where the owner's word is known and nothing is wanted."""
_AT_REST, _AT_REST_WITHOUT_WORD = 7200.0, 330.0
"""Between records, where the owner and the swarm tell what is new, and where the swarm alone does."""

RECORDS = AddressLimits("records", room=512, knocks=8)


class SlotSource:
    """The slots as one node uses them. It looks from the first ``want`` on, until nothing is wanted."""

    name = "slots"
    limits: Sequence[AddressLimits] = (RECORDS,)

    def __init__(self, tracker: Tracker, around: Surroundings) -> None:
        self._tracker = tracker
        self._around = around
        self._publisher = Publisher(
            self._publish,
            interval=around.settings.publish_interval,
            emit=around.emit,
            rng=around.rng,
            rest=self._rest,
        )
        self._held: PatchInfo | None = None
        self._published: tuple[Address, ...] = ()
        self._is_wanting, self._is_missing_something = asyncio.Event(), asyncio.Event()

    async def run(self, listener: Listener) -> None:
        """Publish what is held, and look as often as the settings say, until cancelled; one's failure ends no other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_running("publisher", self._publisher.run, _PAUSES))
            tasks.create_task(keep_running("look", partial(self._keep_looking, listener), _PAUSES))

    async def look(self, *, is_short: bool = False) -> Found:
        """Look into this minute's slot and the last one's; see ``Tracker.look``."""
        await self._around.host.joined()
        heard = await self._tracker.look(is_short=is_short)
        candidates = [
            Candidate(each.info, each.node_id, address, f"slot of minute {each.minute}", each.speaks_v1)
            for each in heard
            for address in each.addresses
        ]
        return Found(RECORDS, candidates=candidates, is_look=True)

    def address_changed(self) -> None:
        """Publish anew, if what is in our record is not true any more."""
        if self._around.host.own_addresses() != self._published:
            self._publisher.announce(self._held)

    def announce(self, info: PatchInfo | None) -> None:
        """Publish this release from now on, at once; a metered device publishes nothing."""
        if self._around.settings.metered:
            return
        self._held = info
        self._publisher.announce(info)

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """Look, whatever is known already, unless nothing is taken here."""
        self._tracker.heed(releases)
        if releases:
            self._is_missing_something.set()
        else:
            self._is_missing_something.clear()
        if releases is not None:
            self._is_wanting.set()
        else:
            self._is_wanting.clear()

    async def _keep_looking(self, listener: Listener) -> None:
        clock, settings = self._around.clock, self._around.settings
        while True:
            await self._is_wanting.wait()
            started = clock()
            is_rare, missing, missing_since = False, self._is_missing_something, None
            while self._is_wanting.is_set():
                listener.hear(await self.look(is_short=is_rare and not missing.is_set()))
                now = clock()
                missing_since = (missing_since or now) if missing.is_set() else None
                pause = settings.pause_between_looks(now - started)
                if missing_since is not None:
                    pause = settings.pause_while_wanting(now - started, now - missing_since)
                pause = jittered(pause, self._around.rng)
                shortest = min(pause, _SHORTEST * (1 + JITTER))
                await asyncio.sleep(shortest)
                is_rare = self._hears_the_owner() and not missing.is_set()
                pause = max(pause, jittered(_QUIET, self._around.rng)) if is_rare else pause
                if missing.is_set():
                    await asyncio.sleep(max(0.0, pause - shortest))
                else:
                    await wait_at_most(missing, max(0.0, pause - shortest))

    def _hears_the_owner(self) -> bool:
        """Whether the pointer tells what is new, so that slots are the second way; who asked for looks has them."""
        word = self._around.word
        return word is not None and word.is_heard and self._around.settings.look_interval is None

    def _rest(self, said_for: float) -> float:
        """The least pause between our records: long where few need them, since nothing is new and nothing wanted here.

        A seed publishes as ever, so that slots stay a second way; so does who knows the owner's word and hears it no
        more, for somebody may be in its way.
        """
        around, settings = self._around, self._around.settings
        if (
            not around.may_rest
            or said_for <= _EARLY
            or not self._is_wanting.is_set()
            or self._is_missing_something.is_set()
            or not settings.publishes_as_usual
        ):
            return 0.0
        if self._hears_the_owner():
            return _AT_REST
        is_without_word = around.host.namespace.meets and (around.word is None or around.word.current is None)
        return _AT_REST_WITHOUT_WORD if is_without_word and settings.look_interval is None else 0.0

    async def _publish(self, info: PatchInfo) -> Published:
        await self._around.host.joined()
        self._published = self._around.host.own_addresses()
        return await self._tracker.publish(info, self._published)


def slot_source(around: Surroundings) -> SlotSource:
    """Every namespace has slots."""
    host = around.host
    return SlotSource(Tracker(host.dht, host.namespace, host.identity, now=time.time, rng=around.rng), around)
