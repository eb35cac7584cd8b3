"""Which targets a program file is for: what its ELF headers say, and those of every ELF member of a zipapp.

design.md "The signed file" and "Keys, targets, namespaces". What targets there are is data (``targets/*.toml``); this
module knows only how a header is held against one. For ARM only explicit contradictions count: Go sets no float bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from pypatcher.artifact.region import REGION_SIZE
from pypatcher.artifact.sections import ELF_MAGIC, HEADER_SIZE, Elf, check_is_program, parse_elf_header
from pypatcher.artifact.zipapp import looks_like_zipapp, member_heads, read_end
from pypatcher.errors import ArtifactError, WrongTargetError
from pypatcher.targets import Target, load_targets

__all__ = [
    "check_device",
    "check_parts",
    "check_target",
    "describe_elf",
    "program_parts",
    "program_target",
    "targets_of",
]

_ARM = 40
_ARM_SOFT_FLOAT = 0x200
_MACHINES = {3: "x86", 8: "MIPS", 21: "PowerPC", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}


def program_target(fd: int) -> frozenset[str]:
    """Names of the known targets that a file fits; empty where it fits none.

    Raises:
        ArtifactError: it is neither ELF nor a readable zipapp.
        OSError: reading failed.
    """
    return targets_of(list(program_parts(fd)))


def targets_of(parts: Iterable[tuple[str, Elf]]) -> frozenset[str]:
    """Names of the known targets that all ``parts`` of a program fit, as `program_parts` names them."""
    all_parts = list(parts)
    return frozenset(
        name for name, target in load_targets().items() if all(not _misfit(elf, target) for _, elf in all_parts)
    )


def check_target(fd: int, target: Target) -> None:
    """Check that a file is for ``target``.

    Raises:
        WrongTargetError: it is not, with the part that does not fit and why.
        ArtifactError: it is neither ELF nor a readable zipapp.
        OSError: reading failed.
    """
    check_parts(program_parts(fd), target)


def check_parts(parts: Iterable[tuple[str, Elf]], target: Target) -> None:
    """Check that all ``parts`` of a program, as `program_parts` names them, are for ``target``.

    Raises:
        WrongTargetError: one is not, and why.
    """
    for part, elf in parts:
        reason = _misfit(elf, target)
        if reason:
            raise WrongTargetError(f"{part} is not for target {target.name}: {reason}")


def check_device(target: Target, machine: str | None = None) -> None:
    """Tell devices whose processor is below every target although their programs' ELF headers look alike.

    ``machine`` is what ``uname -m`` says, by default here.

    Raises:
        WrongTargetError: an armv6 (Pi 1, Zero, Zero W) or older processor.
    """
    machine = os.uname().machine if machine is None else machine
    if target.elf_machine == _ARM and machine.startswith(("armv4", "armv5", "armv6")):
        raise WrongTargetError(
            f"this device is {machine} (a Pi 1, Zero or Zero W, or older), which is no target: "
            f"releases for {target.name} may crash on it, so none is taken"
        )


def describe_elf(elf: Elf) -> str:
    """Such as ``AArch64, 64 bit, little-endian``."""
    name = _MACHINES.get(elf.machine, f"ELF machine {elf.machine}")
    soft = ", soft float" if elf.machine == _ARM and elf.flags & _ARM_SOFT_FLOAT else ""
    return f"{name}, {elf.elf_class} bit, {elf.byte_order}-endian{soft}"


def program_parts(fd: int) -> Iterator[tuple[str, Elf]]:
    """What a device's processor must be able to run: the program itself, or each ELF member of a zipapp.

    Raises:
        ArtifactError: it is neither ELF nor a readable zipapp.
        OSError: reading failed.
    """
    head = os.pread(fd, HEADER_SIZE, 0)
    if head[:4] == ELF_MAGIC:
        elf = parse_elf_header(head)
        check_is_program(elf)
        yield "the program", elf
        return
    if not looks_like_zipapp(fd):
        raise ArtifactError("it is neither an ELF program nor a zipapp")
    try:
        end = read_end(fd, REGION_SIZE)
    except ArtifactError:
        end = read_end(fd, 0)
    for name, content in member_heads(fd, end, HEADER_SIZE):
        if content[:4] == ELF_MAGIC:
            try:
                yield f"its member {name!r}", parse_elf_header(content)
            except ArtifactError as error:
                raise ArtifactError(f"its member {name!r} cannot be read: {error}") from None


def _misfit(elf: Elf, target: Target) -> str:
    """Why a program of that header does not run on ``target``; empty where it does."""
    if (elf.machine, elf.elf_class, elf.byte_order) != (target.elf_machine, target.elf_class, target.byte_order):
        return f"it is built for {describe_elf(elf)}"
    if target.float_abi == "hard" and elf.machine == _ARM and elf.flags & _ARM_SOFT_FLOAT:
        return "it is built for the soft-float ABI (armel); build it with -mfloat-abi=hard"
    return ""
