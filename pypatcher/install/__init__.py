"""The program on this device: the folder beside it, preflight, staging, activation, trial (design.md, install.md)."""

from pypatcher.install.folder import Installation
from pypatcher.install.found import Kind, owner_verifies
from pypatcher.install.holding import Held
from pypatcher.install.preflight import filesystem_type
from pypatcher.install.settling import Settled
from pypatcher.install.starts import Caller, Launcher
from pypatcher.install.status import Status

__all__ = [
    "Caller",
    "Held",
    "Installation",
    "Kind",
    "Launcher",
    "Settled",
    "Status",
    "filesystem_type",
    "owner_verifies",
]
