"""What this device does by the owner's word: joins the word, the device's place in rollouts, and what it has.

One per node. ``policy`` decides; here its facts are brought together. Not here: how a word is heard and kept (``word``,
``stored_word``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pypatcher.artifact.terms import Hold
from pypatcher.update.orders import word_name
from pypatcher.update.policy import Place, Policy
from pypatcher.update.word import newest_kept

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo
    from pypatcher.artifact.manifest import Manifest
    from pypatcher.install import Installation
    from pypatcher.install.words import Standing
    from pypatcher.keys import OwnerKey
    from pypatcher.update.word import OwnersWord
    from pypatcher.version import Version

__all__ = ["ANYTHING", "DeviceRule", "NodeRule", "OpenRule", "ReleaseRule", "Shown"]

_LISTEN_AT_MOST = 120.0


class Shown(Protocol):
    """What earlier downloads showed; see ``wanted.PastDownloads``."""

    @property
    def files(self) -> Mapping[str, str]:
        """A release's signature -> SHA-512 of the whole file, both hex."""

    @property
    def unfit(self) -> Mapping[str, str]:
        """A release's signature, hex -> why this device does not take it."""


class ReleaseRule(Protocol):
    """What the owner's word says about a release here."""

    async def allows(self, info: PatchInfo) -> bool:
        """Whether it may be fetched, staged and activated; whether it fits is for others to say."""

    async def goal(self) -> PatchInfo | None:
        """The one release that the word names for this device, whoever has it; None without a word, or for none."""


class _Anything:
    async def allows(self, _info: PatchInfo) -> bool:
        return True

    async def goal(self) -> PatchInfo | None:
        return None


ANYTHING: ReleaseRule = _Anything()
"""Where nobody's word is asked: in the namespace ``rustpatcher``."""


class OpenRule:
    """For who has no place in rollouts, such as ``fetch``: what the word names, and does not hold."""

    def __init__(self, word: OwnersWord | None) -> None:
        self._word = word

    @property
    def named(self) -> PatchInfo | None:
        """The release that the word names and does not hold; None without a word, or for none."""
        current = None if self._word is None else self._word.current
        if current is None:
            return None
        return current.terms.info if current.hold is Hold.GO_ON else current.terms.stable

    @property
    def is_known(self) -> bool:
        """Whether there is a word."""
        return self._word is not None and self._word.current is not None

    @property
    def is_settled(self) -> bool:
        """Whether there is one, and whoever could tell a newer one was asked: who tells one first may be behind."""
        return self._word is not None and self._word.current is not None and self._word.has_listened

    async def allows(self, info: PatchInfo) -> bool:
        """See ``ReleaseRule``."""
        return not self.is_known or info == self.named

    async def goal(self) -> PatchInfo | None:
        """See ``ReleaseRule``."""
        return self.named


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """What follows from one word for what lies beside the program; see ``install.orders.Rule``.

    Attributes:
        owner: about whose releases it says anything.
        is_known_bad: whether an earlier download showed that this device does not take a release.
    """

    policy: Policy
    owner: OwnerKey
    is_known_bad: Callable[[PatchInfo], bool]

    def stays_staged(self, info: PatchInfo, program: PatchInfo | None) -> bool:
        """Whether a staged release may be activated here."""
        return not info.is_signed_by(self.owner) or self.policy.stays_staged(info, program)

    def wanted(
        self, program: PatchInfo | None, newest: Version, is_refused: Callable[[PatchInfo], bool]
    ) -> PatchInfo | None:
        """The one release that may be staged; None for none, and where no word orders anything."""
        return self.policy.wanted(program, newest, lambda info: is_refused(info) or self.is_known_bad(info))


class NodeRule:
    """The rule of a node.

    Args:
        device_id: see ``device_id``.
        place: where the device stands in every rollout.
        is_required: the program asks for a manifest before it takes anything.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        installation: Installation,
        past: Shown,
        owner: OwnerKey,
        *,
        device_id: bytes,
        place: Place,
        is_required: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._installation = installation
        self._past = past
        self._owner = owner
        self._standing = Policy(None, is_required, device_id, place)
        self._is_required = is_required
        self.word: OwnersWord | None = None

    @property
    def policy(self) -> Policy:
        """By the newest word; where there was one that cannot be read any more, nothing is taken."""
        word = self.word
        if word is None:
            return self._standing
        is_required = self._is_required or (word.current is None and word.had_one)
        return replace(self._standing, manifest=word.current, is_required=is_required)

    def for_word(self, word: Manifest) -> DeviceRule:
        """What follows from a word that is just heard."""
        return DeviceRule(replace(self._standing, manifest=word), self._owner, self._is_known_bad)

    async def arrange(self) -> None:
        """Have ``staged`` and ``waiting`` be what the newest word says: the node starts, a release was staged.

        Raises:
            PatcherError, OSError: it cannot be done here.
        """
        policy = self.policy
        if policy.manifest is not None or policy.is_required:
            await asyncio.to_thread(self._installation.words.arrange, word_name(self._owner), self._newest)

    def _newest(self, stored: bytes | None) -> DeviceRule:
        policy = self.policy
        if policy.manifest is not None:
            policy = replace(policy, manifest=newest_kept(policy.manifest, stored))
        return DeviceRule(policy, self._owner, self._is_known_bad)

    async def allows(self, info: PatchInfo) -> bool:
        """See ``ReleaseRule``."""
        policy = self.policy
        if policy.manifest is None:
            return not policy.is_required and self._has_listened()
        standing = await asyncio.to_thread(self._installation.words.standing)
        return policy.allows(info, standing.program, standing.newest, lambda one: self._is_refused(one, standing))

    async def goal(self) -> PatchInfo | None:
        """See ``ReleaseRule``."""
        policy = self.policy
        if policy.manifest is None:
            return None
        standing = await asyncio.to_thread(self._installation.words.standing)
        return policy.wanted(standing.program, standing.newest, lambda one: self._is_refused(one, standing))

    def _has_listened(self) -> bool:
        """Whether a word would have been heard by now; no failure of who listens may keep a device from releases."""
        return self.word is None or self.word.has_listened or self._clock() - self._started > _LISTEN_AT_MOST

    def _is_refused(self, info: PatchInfo, standing: Standing) -> bool:
        sha512 = bytes.fromhex(self._past.files.get(info.signature.hex(), ""))
        return sha512 in standing.refused or self._is_known_bad(info)

    def _is_known_bad(self, info: PatchInfo) -> bool:
        return info.signature.hex() in self._past.unfit
