"""Whether anybody still speaks to this device: the owner by his word, the fleet by meeting it. By its own uptime.

Who hides a release leaves a silence, and this is where it is noticed. The watches are pure; times in monotonic seconds.
Not here: how words are heard (``update.word``) and members met (``discovery.census``), and whom it is said to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.rollout import describe
from pypatcher.discovery.census import Census
from pypatcher.events import Emit, FleetSilent
from pypatcher.node.conflicts import Conflicts
from pypatcher.node.report import NodeReport
from pypatcher.update.policy import Policy
from pypatcher.update.rule import NodeRule
from pypatcher.update.word import OwnersWord

__all__ = ["DAY", "SilenceWatch", "WordlessWatch", "notice_silence"]

DAY = 86400.0
_EVERY = 60.0
_MANY = 3
"""Networks that have nothing where the word was stored before: one may have forgotten it."""


@dataclass(frozen=True, slots=True)
class SilenceWatch:
    """What one node has not heard.

    Attributes:
        started: when it began to listen.
        longest: seconds of silence that nobody needs to know of.
    """

    word: OwnersWord | None
    started: float
    longest: float = DAY

    def reasons(self, last_met: float | None, now: float) -> list[str]:
        """Why a person should know of it, a line each; none while all is well.

        Args:
            last_met: when a member of the fleet was last met; None for never.
        """
        found = []
        if now - (self.started if last_met is None else last_met) > self.longest:
            found.append(f"no member of the fleet was met for {self._hours}: is a seed up?")
        word = self.word
        if word is None or not word.had_one:
            return found
        contact, since = word.contact, now - self.longest
        if now - (self.started if contact.heard is None else contact.heard) > self.longest:
            found.append(f"the owner's manifest was heard of nobody for {self._hours}")
        if forged := contact.since(since, contact.forged):
            found.append(f"somebody is in the way: {len(forged)} networks hand out manifests that he did not sign")
        missed = contact.since(since, contact.missed)
        if len(missed) >= _MANY and not contact.since(since, contact.networks):
            found.append(f"somebody is in the way: his manifest is gone from {len(missed)} networks that kept it")
        return found

    def heard(self, now: float) -> tuple[float | None, int]:
        """Seconds since the owner's word was last heard whole, None for not yet, and of how many networks in a day."""
        if self.word is None or self.word.contact.heard is None:
            return None, 0
        contact, last = self.word.contact, self.word.contact.heard
        return now - last, len(contact.since(now - self.longest, contact.networks))

    @property
    def _hours(self) -> str:
        return f"{self.longest / 3600:.0f} hours" if self.longest >= 3600 else f"{self.longest:g} s"


class WordlessWatch:
    """Releases that the owner signed, of which no manifest came: forgotten, or signed with an older tool."""

    def __init__(self, longest: float = DAY) -> None:
        self._longest = longest
        self._since: dict[PatchInfo, float] = {}

    def overdue(self, releases: Iterable[PatchInfo], lacks_word: Callable[[PatchInfo], bool], now: float) -> list[str]:
        """The versions that were named all the time for so long; ``releases`` are those that are named now."""
        lacking = [info for info in releases if lacks_word(info)]
        self._since = {info: self._since.get(info, now) for info in lacking}
        return [str(info.version) for info in lacking if now - self._since[info] > self._longest]


async def notice_silence(
    rule: NodeRule | None, census: Census, report: NodeReport, conflicts: Conflicts, emit: Emit
) -> None:
    """Say it when nobody is heard any more, or what is heard has no manifest, and have the report tell it."""
    word = None if rule is None else rule.word
    watch, wordless, said = SilenceWatch(word, time.monotonic()), WordlessWatch(), set[str]()
    while True:
        now, policy = time.monotonic(), Policy() if rule is None else rule.policy
        reasons = watch.reasons(census.last_met, now)
        for reason in [reason for reason in reasons if reason not in said]:
            emit(FleetSilent(reason))
        said = set(reasons)
        for version in wordless.overdue(census.releases(), policy.lacks_word, now):
            conflicts.lacks_word(version)
        heard, networks = watch.heard(now)
        lost = "" if word is None else word.problem
        told = lost if policy.manifest is None else describe(policy.manifest)
        report.listens(told, heard, networks, "; ".join(reasons))
        await asyncio.sleep(_EVERY)
