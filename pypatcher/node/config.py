"""A node's configuration: what people chose, and which program on this device it updates.

The same two values configure a ``Node`` in an application's thread and under ``pypatcher run``. Light, because an
application imports it before its main: no socket, no packet and nothing of the network belongs here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.install import Installation
from pypatcher.keys import OwnerKey
from pypatcher.node.device import NamespaceKind, own_key, own_target, previous_key
from pypatcher.settings import Settings
from pypatcher.targets import Target
from pypatcher.update.mode import Mode, OnRestart
from pypatcher.update.orders import open_installed

if TYPE_CHECKING:
    from pypatcher.transfer import StallRule

__all__ = ["NodeConfig", "NodeProgram"]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What people chose: the owner of the fleet in code or on the command line, whoever set the device's environment.

    Attributes:
        keys: whose releases, by target; None for every target.
        previous: the owner's keys before those, likewise; they count while one of them signed the program.
        kind: whose namespace.
        settings: how it behaves in the network.
        mode: when a staged release takes over.
        confirm_by_uptime: a trial ends after 5 minutes with the node up.
        stall: how slow a peer may be that gives us a release; None for the usual rule.
    """

    keys: Mapping[str | None, OwnerKey]
    kind: NamespaceKind = "pypatcher"
    previous: Mapping[str | None, OwnerKey] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    mode: Mode = field(default_factory=OnRestart)
    confirm_by_uptime: bool = True
    stall: StallRule | None = None


@dataclass(frozen=True, slots=True)
class NodeProgram:
    """The program that a node updates, as it was found on this device.

    Attributes:
        target: which releases fit it.
        owner: whose releases it takes.
        installation: the program on disk, and what is beside it.
        previous: the owner's key before this one.
    """

    target: Target
    owner: OwnerKey
    installation: Installation
    previous: OwnerKey | None = None

    @classmethod
    def find(cls, path: Path, interpreter: Path, config: NodeConfig) -> NodeProgram:
        """Look at the program at ``path``; ``interpreter`` decides for a file that fits several targets.

        Raises:
            WrongTargetError: it is for no target that we know.
            SettingError: none of the keys is for its target.
            ArtifactError, OSError: neither file can be read as a program.
        """
        target = own_target(path, interpreter)
        owner, previous = own_key(config.keys, target), previous_key(config.previous, target)
        return cls(target, owner, open_installed(path, owner, target, previous), previous)

    def owners(self) -> tuple[OwnerKey, ...]:
        """In whose namespaces it lives now, that of the key which signed its file first.

        Once a release of the present key is the program, nothing of the one before counts any more.
        """
        if self.previous is not None and self.installation.running_info().rank == 1:
            return self.previous, self.owner
        return (self.owner,)
