"""The program on this device: the folder beside it, preflight, staging, activation, trial (design.md, install.md).

Not here: the network, processes, and when a restart happens.
"""

from pypatcher.install.examine import CANNOT_BE_UPDATED, EntryKind, owner_verifies
from pypatcher.install.installation import Installation
from pypatcher.install.local_release import LocalRelease
from pypatcher.install.preflight import filesystem_type
from pypatcher.install.reconcile import Settled
from pypatcher.install.starts import Caller, Launcher
from pypatcher.install.status import Status

__all__ = [
    "CANNOT_BE_UPDATED",
    "Caller",
    "EntryKind",
    "Installation",
    "Launcher",
    "LocalRelease",
    "Settled",
    "Status",
    "filesystem_type",
    "owner_verifies",
]
