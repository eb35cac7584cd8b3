"""Signing a file: its region filled in, everything else as it was.

design.md "The signed file": atomic, idempotent (ed25519 is deterministic: the same file, version and key give the same
bytes), and only for files that a device would take. Keys are made elsewhere, on purpose.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pypatcher.artifact.hashing import hash_without_region
from pypatcher.artifact.patch import PatchInfo, make_info
from pypatcher.artifact.program import examine_program
from pypatcher.artifact.region import HASH_SIZE, REGION_SIZE, VERSION_FIELD, pack_region
from pypatcher.artifact.replace import open_program, replacing, write_at
from pypatcher.errors import VersionError
from pypatcher.keys import KeyPair
from pypatcher.targets import Target
from pypatcher.version import Version

__all__ = ["Signed", "sign_file", "signing"]


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed, at which offset its region is, and the names of the known targets that the file fits."""

    info: PatchInfo
    offset: int
    fits: tuple[str, ...]


def sign_file(
    path: Path, key: KeyPair, version: Version | None, target: Target | None, *, any_machine: bool = False
) -> PatchInfo:
    """Sign the program at ``path`` in its place; see `signing`."""
    with signing(path, key, version, target, any_machine=any_machine) as (signed, _):
        return signed.info


@contextlib.contextmanager
def signing(
    path: Path,
    key: KeyPair,
    version: Version | None,
    target: Target | None,
    *,
    out: Path | None = None,
    any_machine: bool = False,
) -> Iterator[tuple[Signed, int]]:
    """Sign the program at ``path``: a signed copy is open in the block, and replaces the file after it.

    If the block raises, nothing has changed.

    Args:
        path: an ELF program or a zipapp with a region.
        key: the owner's.
        version: the application's; None for the one that the build put into the region.
        target: what the file must be for; None for any known one.
        any_machine: with no ``target``, it may be for a machine that is none.
        out: where the signed file goes; None replaces the one at ``path``.

    Raises:
        NoRegionError, RegionError: there is no region, more than one, or a damaged one.
        VersionError: no version, or one that cannot be announced.
        WrongTargetError: the file is for another target.
        ArtifactError: it is larger than 4 GiB or cannot be read.
        CannotReplaceError: it cannot be replaced with mode, owner and attributes kept. Nothing was changed.
    """
    with open_program(path) as fd:
        signed = _plan_signature(fd, key, version, target, any_machine=any_machine)
        if out is None and os.pread(fd, REGION_SIZE, signed.offset) == pack_region(signed.info):
            yield signed, fd
            return
    with replacing(path, out) as fd:
        # The copy is what gets signed: the file may have changed since it was looked at.
        signed = _plan_signature(fd, key, version, target, any_machine=any_machine)
        write_at(fd, pack_region(signed.info), signed.offset)
        yield signed, fd


def _plan_signature(
    fd: int, key: KeyPair, version: Version | None, target: Target | None, *, any_machine: bool = False
) -> Signed:
    """What ``signing`` writes into a file, and where, after every check that it makes.

    Raises:
        As ``signing``.
    """
    program = examine_program(fd)
    program.check_for(target, any_machine=any_machine)
    located = program.check_region()
    file_size = program.file_size
    if version is None:
        version = _built_in_version(os.pread(fd, REGION_SIZE, located.offset))
    version.seq()
    digest = hash_without_region(fd, file_size, located.offset)[:HASH_SIZE]
    info = make_info(version, digest, file_size - REGION_SIZE, key)
    return Signed(info, located.offset, tuple(sorted(program.fits)))


def _built_in_version(region: bytes) -> Version:
    field = region[VERSION_FIELD]
    if not any(field):
        raise VersionError("the build put no version into the region: say which with --version")
    try:
        return Version.from_field(field)
    except VersionError as error:
        raise VersionError(f"the build put no usable version into the region ({error}): use --version") from None
