"""Which device this is: its target, the key that it trusts, and so its namespace.

design.md "Keys, targets, namespaces": the target is that of the program's file, else the interpreter's, never the
kernel's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from pypatcher.artifact import check_device, program_target
from pypatcher.artifact.replace import open_program
from pypatcher.errors import ArtifactError, SettingError, WrongTargetError
from pypatcher.keys import OwnerKey
from pypatcher.targets import Target, find_target, load_targets

__all__ = ["NamespaceKind", "own_key", "own_target", "previous_key"]

NamespaceKind: TypeAlias = Literal["pypatcher", "rustpatcher"]
"""Whose namespace: ours, or that of the Rust program's devices."""


def own_target(program: Path, interpreter: Path) -> Target:
    """The target of a program that runs here.

    Args:
        program: its file. A zipapp may fit several targets, a damaged file tells nothing.
        interpreter: an executable of this device, which decides in these cases.

    Raises:
        WrongTargetError: it is for none that we know, or this device's processor is below it.
        ArtifactError: neither file is ELF or a zipapp.
        OSError: a file cannot be read.
    """
    try:
        names = _targets_of(program)
    except ArtifactError:
        names = frozenset(load_targets())
    if len(names) > 1:
        names &= _targets_of(interpreter)
    if len(names) != 1:
        raise WrongTargetError(f"{program} is for no target that pypatcher knows")
    target = find_target(next(iter(names)))
    check_device(target)
    return target


def own_key(keys: Mapping[str | None, OwnerKey], target: Target) -> OwnerKey:
    """The key that a device of that target trusts; None in ``keys`` stands for every target.

    Raises:
        SettingError: no key is for this device.
    """
    key = keys.get(target.name, keys.get(None))
    if key is None:
        raise SettingError(f"no public key was given for this device's target, {target.name}")
    return key


def previous_key(keys: Mapping[str | None, OwnerKey], target: Target) -> OwnerKey | None:
    """The key that a device of that target trusted before, if one was given."""
    return keys.get(target.name, keys.get(None))


def _targets_of(path: Path) -> frozenset[str]:
    with open_program(path) as descriptor:
        return program_target(descriptor)
