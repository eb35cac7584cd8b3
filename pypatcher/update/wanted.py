"""Whether this device takes a release: the one place that answers for records and for offers.

Asks in turn what earlier downloads showed, what the owner's word says, and what the destination, the program on disk,
takes. What is refused is said once. Not here: who is asked for a release, and
when (``updater``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pypatcher.artifact import PatchInfo
from pypatcher.budgets.intake import Intake
from pypatcher.budgets.peer_budget import FetchBudget
from pypatcher.errors import CannotReplaceError, NotNewerError, PatcherError, RefusedReleaseError
from pypatcher.events import Emit, Event, PreflightFailed, ReleaseRefused
from pypatcher.transfer.download import Destination
from pypatcher.update.rule import ANYTHING, ReleaseRule

__all__ = ["PastDownloads", "SayOnce", "Wanted"]

_LIMIT = 256


class PastDownloads:
    """What earlier downloads showed, in this run or another: a release is judged by it before it is fetched again.

    Args:
        intake: our own limits of what is taken.

    Attributes:
        files: a release's signature -> SHA-512 of the whole file, both hex, of what was staged here.
        unfit: a release's signature, hex -> why this device does not take it.
        budget: what peers cost so far.
    """

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        unfit: Mapping[str, str] | None = None,
        *,
        intake: Intake | None = None,
    ) -> None:
        self.files = dict(files or {})
        self.unfit = dict(unfit or {})
        self.budget = FetchBudget(intake)

    def refuse(self, info: PatchInfo, reason: str) -> None:
        """Its download showed that this device does not take it."""
        self.unfit[info.signature.hex()] = reason

    async def staged(self, info: PatchInfo) -> None:
        """It is beside the program now."""


class SayOnce:
    """Says what would else be repeated at every round; 256 events are remembered."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._said: set[str] = set()

    def say(self, event: Event, what: str | None = None) -> None:
        """Say it; ``what`` names it, else the event's own text does."""
        what = what or str(event)
        if what not in self._said:
            if len(self._said) >= _LIMIT:
                self._said.clear()
            self._said.add(what)
            self._emit(event)


class Wanted:
    """The answer of one device.

    Args:
        past: what earlier downloads showed; told what this one's do.
        rule: what the owner's word says.
        largest: bytes of a release that needs no person's word; None: whatever its size.

    Attributes:
        once: says each thing that it refuses once.
    """

    def __init__(
        self,
        destination: Destination,
        past: PastDownloads,
        emit: Emit,
        rule: ReleaseRule = ANYTHING,
        *,
        largest: int | None = None,
    ) -> None:
        self._largest = largest
        self._destination = destination
        self.past = past
        self.once = SayOnce(emit)
        self.rule = rule
        self._refused: set[PatchInfo] = set()

    async def wants(self, info: PatchInfo) -> bool:
        """Whether it is worth fetching, as far as is known before that."""
        if info in self._refused:
            return False
        if (reason := self.past.unfit.get(info.signature.hex())) is not None:
            self.once.say(ReleaseRefused(str(info.version), reason))
            return False
        try:
            return await self._is_taken(info)
        except NotNewerError:
            return False
        except RefusedReleaseError as error:
            self.once.say(ReleaseRefused(str(info.version), str(error)))
            return False
        except (CannotReplaceError, OSError) as error:
            self.once.say(PreflightFailed(str(error)))
            return False

    async def _is_taken(self, info: PatchInfo) -> bool:
        if not await self.rule.allows(info):
            return False
        sha512 = bytes.fromhex(self.past.files.get(info.signature.hex(), ""))
        await asyncio.to_thread(self._destination.check_wanted, info.version, sha512)
        if self._largest is not None and info.file_size > self._largest:
            raise CannotReplaceError(
                f"{info.version} has {info.file_size / 1e6:.1f} MB, more than this metered device fetches by itself: "
                "raise PYPATCHER_METERED_SIZE, or bring it by hand: pypatcher stage"
            )
        return True

    async def goal(self) -> PatchInfo | None:
        """What the owner's word names for this device, if it is still to be had, whether or not anybody has it.

        What is open to few is named nowhere: it is found only by who looks for it.
        """
        try:
            goal = await self.rule.goal()
        except (PatcherError, OSError):
            return None
        return goal if goal is not None and await self.wants(goal) else None

    def refuse(self, info: PatchInfo, error: PatcherError) -> None:
        """Remember what a download showed: nobody is asked for that release again."""
        if isinstance(error, RefusedReleaseError):
            self.past.refuse(info, str(error))
        else:
            if len(self._refused) >= _LIMIT:
                self._refused.clear()
            self._refused.add(info)
        self.once.say(ReleaseRefused(str(info.version), str(error)))
