"""The questions that this room has about the owner's stored word; where there is none, the answers forbid nothing.

This room keeps the word's bytes and cannot read them: whoever can is passed in. Not here: what a word orders
(``update.policy``), and what is done about it (``decide``, ``words``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo
    from pypatcher.version import Version

__all__ = ["Orders", "ReadOrders", "Rule", "no_orders"]


class Orders(Protocol):
    """What everybody can tell from the stored word, who knows no draw: it only takes away."""

    def may_stay_staged(self, info: PatchInfo) -> bool:
        """Whether a staged release may be activated."""

    def gives_way(self, trial: PatchInfo) -> bool:
        """Whether a version on trial, although it did not fail, makes room for a newer one that is staged."""

    def must_go_back(self, trial: PatchInfo) -> bool:
        """Whether it makes room without a successor."""


class Rule(Protocol):
    """What the node of this device can tell, which knows its draw: the node alone permits."""

    def stays_staged(self, info: PatchInfo, program: PatchInfo | None) -> bool:
        """Whether a staged release may be activated here."""

    def wanted(
        self, program: PatchInfo | None, newest: Version, is_refused: Callable[[PatchInfo], bool]
    ) -> PatchInfo | None:
        """The one release that may be staged; None for none."""


ReadOrders: TypeAlias = Callable[[Callable[[str], tuple[bytes | None, bytes | None]]], Orders]
"""Makes orders of what is stored: given how to read an owner's word and its flag by the owner's name."""


class _NoOrders:
    def may_stay_staged(self, _info: PatchInfo) -> bool:
        return True

    def gives_way(self, _trial: PatchInfo) -> bool:
        return False

    def must_go_back(self, _trial: PatchInfo) -> bool:
        return False


def no_orders(_read: object) -> Orders:
    """There is no owner's word here."""
    return _NoOrders()
