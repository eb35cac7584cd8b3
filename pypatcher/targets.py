"""Targets: which machines a release can be for. One TOML file each in ``targets/``; adding a target is adding a file.

This module reads those files and knows nothing of any architecture. Whether a program file is for a target is
decided in ``pypatcher.artifact`` from what is in the file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path

from pypatcher.errors import SettingError

__all__ = ["Target", "find_target", "load_targets", "read_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of device.

    Attributes:
        name: the label in keys, topics and ALPNs, such as ``armv7``.
        elf_machine: ``e_machine`` of its programs.
        elf_class: 32 or 64.
        byte_order: ``little`` or ``big``.
        float_abi: ``hard`` where ``e_flags`` can tell the float ABI, else ``none``.
        gnu_triplet: such as ``arm-linux-gnueabihf``.
        debian_arch: such as ``armhf``.
        qemu: name of QEMU's user-mode program.
        qemu_cpu: ``QEMU_CPU`` that resembles the devices.
        wheel_machine: the machine part of a wheel's platform tag.
        uname_machine: what ``uname -m`` says where the kernel is of the same kind.
    """

    name: str
    elf_machine: int
    elf_class: int
    byte_order: str
    float_abi: str
    gnu_triplet: str
    debian_arch: str
    qemu: str
    qemu_cpu: str
    wheel_machine: str
    uname_machine: str


def read_targets(folder: Traversable) -> dict[str, Target]:
    """Read every ``*.toml`` of a folder; the file's name is the target's.

    Raises:
        SettingError: a file is not TOML, lacks a field or has one too many.
    """
    targets = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name, dot, suffix = entry.name.rpartition(".")
        if not dot or suffix != "toml":
            continue
        targets[name] = _read_target(name, entry.read_text(encoding="utf-8"), str(entry))
    return targets


def _read_target(name: str, text: str, where: str) -> Target:
    try:
        target = Target(name=name, **tomllib.loads(text))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise SettingError(f"target file {where}: {error}") from None
    for field in fields(Target):
        if type(getattr(target, field.name)).__name__ != field.type:
            raise SettingError(f"target file {where}: {field.name} must be of type {field.type}")
    return target


@cache
def load_targets() -> dict[str, Target]:
    """The targets that this installation knows, by name.

    Raises:
        SettingError: there are none: the sources themselves were bundled, instead of an installed pypatcher.
    """
    try:
        # Imported by name, for bundlers that follow imports and take no data files along (Nuitka).
        from pypatcher._built_in_targets import TEXTS
    except ModuleNotFoundError:
        folder = Path(__file__).parent.parent / "targets"
        if not folder.is_dir():
            raise SettingError(
                "pypatcher was bundled from the folder of its sources, without its targets: install it, and build the "
                "program in a folder of its own"
            ) from None
        return read_targets(folder)
    return {name: _read_target(name, text, f"{name}.toml") for name, text in TEXTS.items()}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        SettingError: there is none.
    """
    targets = load_targets()
    if name not in targets:
        raise SettingError(f"unknown target {name!r}: choose one of {', '.join(targets)}")
    return targets[name]
