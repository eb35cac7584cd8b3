"""What the owner's word, stored beside a program, orders at a start: for guard, ``run`` and ``spawn``.

install.md "The owner's word". Who starts a program knows no draw, so it only takes away. Light, for every start reads
it. Not here: what a word says (``policy``), and how it gets there (``stored_word``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.install import Installation, owner_verifies
from pypatcher.install.orders import Orders, ReadOrders
from pypatcher.keys import OwnerKey, encode_key
from pypatcher.targets import Target

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo
    from pypatcher.update.policy import Policy

__all__ = ["open_installed", "stored_orders", "word_name"]

_NAME_SIZE = 16
_Read = Callable[[str], tuple[bytes | None, bytes | None]]


def word_name(owner: OwnerKey) -> str:
    """What an owner's files are called by."""
    return encode_key(owner)[:_NAME_SIZE]


def open_installed(path: Path, owner: OwnerKey, target: Target, previous: OwnerKey | None = None) -> Installation:
    """The installation of a program as its device sees it: whose releases it takes, and whose word it obeys."""
    owners = [owner] if previous is None else [owner, previous]
    verify = owner_verifies(owner, target, previous)
    return Installation(path, verify, orders=stored_orders(owners, target.name))


def stored_orders(owners: Sequence[OwnerKey], target: str) -> ReadOrders:
    """What the words of these owners order, once they are asked for."""

    def read_orders(read: _Read) -> Orders:
        return _StoredOrders({owner: _policy(read, owner, target) for owner in owners})

    return read_orders


def _policy(read: _Read, owner: OwnerKey, target: str) -> Policy:
    from pypatcher.artifact.manifest import Manifest
    from pypatcher.errors import ManifestError
    from pypatcher.update.policy import Policy

    data, flag = read(word_name(owner))
    try:
        manifest = None if data is None else Manifest.decode_kept(data, owner, target)
    except ManifestError:
        manifest = None
    return Policy(manifest, is_required=manifest is None and (data is not None or flag is not None))


class _StoredOrders:
    """Each release by the word of who signed it; nobody's word forbids what another owner signed."""

    def __init__(self, policies: dict[OwnerKey, Policy]) -> None:
        self._policies = policies

    def may_stay_staged(self, info: PatchInfo) -> bool:
        """See ``install.orders.Orders``."""
        return all(policy.may_stay_staged(info) for policy in self._of(info))

    def gives_way(self, trial: PatchInfo) -> bool:
        """See ``install.orders.Orders``."""
        return any(policy.gives_way(trial) for policy in self._of(trial))

    def must_go_back(self, trial: PatchInfo) -> bool:
        """See ``install.orders.Orders``."""
        return any(policy.must_go_back(trial) for policy in self._of(trial))

    def _of(self, info: PatchInfo) -> list[Policy]:
        return [policy for owner, policy in self._policies.items() if info.is_signed_by(owner)]
