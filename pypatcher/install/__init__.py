"""The program on this device: the folder beside it, preflight, staging, activation, trial (design.md, install.md)."""

from pypatcher.install.decide import LIMITS, Limits
from pypatcher.install.folder import Installation
from pypatcher.install.found import Found, Kind, owner_verifies
from pypatcher.install.holding import Held
from pypatcher.install.preflight import filesystem_type
from pypatcher.install.settling import Settled
from pypatcher.install.staging import Partial
from pypatcher.install.starts import Caller, Launcher, current_caller
from pypatcher.install.status import RefusedRelease, Status, TrialStatus
from pypatcher.install.trial import ProgramId, TrialState

__all__ = [
    "LIMITS",
    "Caller",
    "Found",
    "Held",
    "Installation",
    "Kind",
    "Launcher",
    "Limits",
    "Partial",
    "ProgramId",
    "RefusedRelease",
    "Settled",
    "Status",
    "TrialState",
    "TrialStatus",
    "current_caller",
    "filesystem_type",
    "owner_verifies",
]
