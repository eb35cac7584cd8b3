"""The owner's desk at the pointer: what the network shows of his word, and how a new one gets there.

protocol.md "The pointer". For the commands ``publish`` and ``lookup``, which hold no program and no key. Not here: how
a word is signed (``artifact.rollout``), and how devices keep it alive (``discovery.sources.pointer``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pypatcher.addresses import network_of
from pypatcher.artifact.manifest import POSITIONS, Manifest, ManifestFile, newer_word, pointer_salt
from pypatcher.artifact.replace import write_file
from pypatcher.dht import ItemLookup
from pypatcher.discovery.sources.pointer import PointerStore
from pypatcher.errors import ManifestError, PeerError
from pypatcher.keys import OwnerKey
from pypatcher.regular_file import read_regular

__all__ = ["Keepers", "PointerView", "Steps", "publish_word", "view_pointer"]

_log = logging.getLogger("pypatcher")
_REFRESH = 1800.0
_OFFLINE = 60.0
_STATE_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Keepers:
    """How many nodes keep a word, at the position that has the fewest, and in how many networks all together."""

    nodes: int
    networks: int


@dataclass(frozen=True, slots=True)
class PointerView:
    """What the network shows of one owner's word for one target.

    Attributes:
        newest: the newest word that verifies; None: there is none.
        lookups: of each position.
    """

    target: str
    newest: Manifest | None
    lookups: Sequence[ItemLookup]

    def kept(self, word: ManifestFile | Manifest) -> Keepers:
        """Who keeps that word, as far as they say so."""
        nodes, networks = [], set[str]()
        for lookup in self.lookups:
            keepers = [each for each in lookup.nearest if each.item is not None and each.seq == word.seq]
            keepers = [each for each in keepers if each.item is not None and each.item.value == word.value]
            nodes.append(len(keepers))
            networks |= {network_of(each.contact.address) for each in keepers}
        return Keepers(min(nodes, default=0), len(networks))


async def view_pointer(dht: PointerStore, owner: OwnerKey, target: str) -> PointerView:
    """Look all four positions up.

    Raises:
        PeerError: no node answers.
    """
    salts = [pointer_salt(target, position) for position in range(POSITIONS)]
    lookups = await asyncio.gather(*(dht.find_item(owner, salt) for salt in salts))
    newest: Manifest | None = None
    answers = [answer for lookup in lookups for answer in (*lookup.nearest, *lookup.others)]
    if not answers and not any(lookup.nodes for lookup in lookups):
        raise PeerError("no DHT node answers: is UDP blocked here? `pypatcher netcheck` tells more")
    for item in dict.fromkeys(answer.item for answer in answers if answer.item is not None):
        try:
            newest = newer_word(newest, Manifest.from_item(item, owner, target))
        except ManifestError:
            continue
    return PointerView(target, newest, lookups)


async def publish_word(dht: PointerStore, word: ManifestFile) -> dict[str, Keepers]:
    """Write a word for each of its targets, and look who keeps it then.

    Raises:
        ManifestError: the network shows a newer word, or another one under this seq; nothing was written.
        PeerError: no node answers.
    """
    views = [await view_pointer(dht, word.owner, target) for target in word.signatures]
    for view in views:
        _check_newest(view, word)
    kept = {}
    for view in views:
        mine = word.for_target(view.target)
        for position, lookup in enumerate(view.lookups):
            item = None if mine is None else mine.item(position)
            if item is not None:
                await dht.put_mutable(item, lookup)
        kept[view.target] = (await view_pointer(dht, word.owner, view.target)).kept(word)
    return kept


def _check_newest(view: PointerView, word: ManifestFile) -> None:
    shown = view.newest
    if shown is None or shown.seq < word.seq or (shown.seq, shown.value) == (word.seq, word.value):
        return
    which = "a newer word of the owner's" if shown.seq > word.seq else "another word of the owner's under this seq"
    raise ManifestError(
        f"the network shows {which} for {view.target} (seq {shown.seq}, this file has {word.seq}): "
        "`pypatcher lookup` shows it, and `rollout --above` goes beyond it"
    )


class Steps:
    """Opens a rollout's steps in time, on any machine and without the key; it goes on where it was after a restart.

    Args:
        state: a file beside the steps that says which was opened when.
        each: seconds from one step to the next.
        now: unix time; it counts for what was opened before a restart alone, for clocks are set.
        say: told of each step that is opened, and who keeps it.
        uptime: seconds by a clock that nobody sets, which goes on while the machine sleeps.
    """

    def __init__(
        self,
        steps: Sequence[ManifestFile],
        state: Path,
        each: float,
        now: Callable[[], float],
        say: Callable[[ManifestFile, dict[str, Keepers]], None],
        *,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._steps = steps
        self._state = state
        self._each = each
        self._now = now
        self._say = say
        self._uptime = uptime

    async def run(self, dht: PointerStore) -> None:
        """Open them until the last one is open; each is written again every half hour, for nodes forget it in two.

        Raises:
            ManifestError: the network shows a word that is none of these, such as the brake.
            PeerError: no node answers at first; later it waits for the network.
        """
        at, said, due = await self._where(dht), -1, 0.0
        while True:
            try:
                kept = await publish_word(dht, self._steps[at])
            except PeerError as error:
                if said < 0:
                    raise
                _log.warning("the steps wait for the network: %s", error)
                await asyncio.sleep(_OFFLINE)
                continue
            if said != at:
                self._say(self._steps[at], kept)
                said, due = at, self._uptime() + self._left(at)
            if at == len(self._steps) - 1:
                return
            await asyncio.sleep(max(0.0, min(due - self._uptime(), _REFRESH)))
            if due <= self._uptime():
                at += 1

    async def _where(self, dht: PointerStore) -> int:
        """The step that the network shows, or the last one that was opened here."""
        shown = -1
        for target in self._steps[0].signatures:
            newest = (await view_pointer(dht, self._steps[0].owner, target)).newest
            if newest is not None and newest.seq >= self._steps[0].seq:
                seqs = [step.seq for step in self._steps]
                if newest.seq not in seqs:
                    _check_newest(PointerView(target, newest, ()), self._steps[-1])
                    raise ManifestError(f"the network shows a word (seq {newest.seq}) that is none of these steps")
                shown = max(shown, seqs.index(newest.seq))
        opened = self._read()[0]
        return max(0, shown, next((at for at, step in enumerate(self._steps) if step.seq == opened), 0))

    def _left(self, at: int) -> float:
        """Seconds for which that step stays the last one. Where it was opened at a time that is yet to come: all."""
        (seq, when), now = self._read(), self._now()
        if seq != self._steps[at].seq:
            when = now
            line = f"{self._steps[at].seq} {when:.0f}\n"
            write_file(self._state, line.encode(), _is_opened, "note of the step that was opened")
        return self._each - max(0.0, now - when)

    def _read(self) -> tuple[int, float]:
        try:
            seq, when = read_regular(self._state, _STATE_LIMIT).split()
            return int(seq), float(when)
        except (OSError, ValueError):
            return -1, 0.0


def _is_opened(fd: int) -> bool:
    return re.fullmatch(rb"\d+ \d+\n", os.pread(fd, _STATE_LIMIT, 0)) is not None
