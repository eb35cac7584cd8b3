"""What the owner's word lets this device do: which release it takes, and what becomes of one that it has.

protocol.md "The manifest". One pure function of facts, without a clock, and the only place that decides: who fetches,
who activates and who restarts all ask it. A manifest forbids and orders; it never makes a device take what it would not
take without one (not newer, refused here), and it never moves a device that already activated a release, but for
``hold`` 2, which ends a trial.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.terms import ALL, Hold
from pypatcher.version import Version

__all__ = ["Place", "Policy", "draw"]

_DRAW_DOMAIN = b"pypatcher rollout"


class Place(enum.Enum):
    """Where this device stands in every rollout (``PYPATCHER_ROLLOUT``)."""

    FIRST = "first"
    """Among those that try a release before the others."""
    BY_DRAW = ""
    LAST = "last"


def draw(device_id: bytes, release_id: bytes, place: Place = Place.BY_DRAW) -> int:
    """This device's number for a release, 0 to 9,999: it takes part while the number is below the share."""
    if place is not Place.BY_DRAW:
        return 0 if place is Place.FIRST else ALL - 1
    digest = hashlib.sha512(_DRAW_DOMAIN + device_id + release_id).digest()
    return int.from_bytes(digest[:8], "big") % ALL


@dataclass(frozen=True, slots=True)
class Policy:
    """The owner's word, and where this device stands in it.

    Attributes:
        manifest: the newest word that was heard; None: there never was one, or what was kept cannot be read.
        is_required: nothing is taken without a manifest: the program asks for one, or this device once had one.
        device_id: 16 bytes; see ``device_id``.
        place: whether this device is to be first or last.
    """

    manifest: Manifest | None = None
    is_required: bool = False
    device_id: bytes = b""
    place: Place = Place.BY_DRAW

    def wanted(
        self, program: PatchInfo | None, newest: Version, is_refused: Callable[[PatchInfo], bool]
    ) -> PatchInfo | None:
        """The one release that may be fetched, staged and activated; only to be asked when there is a manifest.

        Args:
            program: what runs from the program's path; None where that is not known.
            newest: the newest version that was ever confirmed here, or runs.
            is_refused: whether this device refused a release before.
        """
        if self.manifest is None:
            return None
        terms = self.manifest.terms
        candidates = []
        if self.manifest.hold is Hold.GO_ON and (self.takes_part() or self.is_withdrawn(program)):
            candidates.append(terms.info)
        if terms.stable is not None:
            candidates.append(terms.stable)
        return next((info for info in candidates if info.version > newest and not is_refused(info)), None)

    def allows(
        self, info: PatchInfo, program: PatchInfo | None, newest: Version, is_refused: Callable[[PatchInfo], bool]
    ) -> bool:
        """Whether a release may be fetched, staged and activated here; whether it fits is for others to say."""
        if self.manifest is None:
            return not self.is_required
        return self.wanted(program, newest, is_refused) == info

    def may_stay_staged(self, info: PatchInfo) -> bool:
        """Whether what is staged may be activated by who knows the stored word, and no draw: guard and ``run``."""
        if self.manifest is None:
            return not self.is_required
        terms = self.manifest.terms
        return (info == terms.info and self.manifest.hold is Hold.GO_ON) or info == terms.stable

    def stays_staged(self, info: PatchInfo, program: PatchInfo | None) -> bool:
        """The same by who knows the draw: whether what is staged may be activated on this device."""
        if self.manifest is None or info != self.manifest.terms.info:
            return self.may_stay_staged(info)
        return self.may_stay_staged(info) and (self.takes_part() or self.is_withdrawn(program))

    def takes_part(self) -> bool:
        """Whether this device is within the share."""
        if self.manifest is None:
            return False
        terms = self.manifest.terms
        return terms.share == ALL or draw(self.device_id, terms.info.release_id, self.place) < terms.share

    def is_withdrawn(self, info: PatchInfo | None) -> bool:
        """Whether the owner took a release back: it lies strictly between ``stable`` and the newest one."""
        if self.manifest is None or info is None or self.manifest.terms.stable is None:
            return False
        return self.manifest.terms.stable.version < info.version < self.manifest.terms.info.version

    def may_be_confirmed_by_time(self, trial: PatchInfo) -> bool:
        """Whether uptime may end a trial; the application's or a person's word always may."""
        return not self._is_held(trial) and not self.is_withdrawn(trial)

    def gives_way(self, trial: PatchInfo) -> bool:
        """Whether a trial makes room for another release that is wanted, although it did not fail."""
        return not self.may_be_confirmed_by_time(trial)

    def must_go_back(self, trial: PatchInfo) -> bool:
        """Whether a trial ends with the program before it, without a successor."""
        if self.manifest is None or self.manifest.hold is not Hold.RECALLED:
            return False
        return self._is_held(trial) or self.is_withdrawn(trial)

    def may_be_announced(self, info: PatchInfo) -> bool:
        """Whether it is named where older nodes read: slots, offers, v0. Those know no brake."""
        if self.manifest is None:
            return True
        terms = self.manifest.terms
        is_open = self.manifest.hold is Hold.GO_ON and terms.share == ALL
        return info == terms.stable or (info == terms.info and is_open)

    def lacks_word(self, info: PatchInfo) -> bool:
        """Whether a release that the owner signed is above the newest word: it was forgotten, or signed without one."""
        return self.manifest is not None and info.version > self.manifest.terms.info.version

    def _is_held(self, info: PatchInfo) -> bool:
        """Whether its version is held: another build under that version is no better."""
        if self.manifest is None or self.manifest.hold is Hold.GO_ON:
            return False
        return info.version == self.manifest.terms.info.version
