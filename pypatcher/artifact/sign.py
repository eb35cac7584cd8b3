"""Signing a file: its region filled in, everything else as it was.

design.md "The signed file": atomic, idempotent (ed25519 is deterministic: the same file, version and key give the same
bytes), and only for files that a device would take. Keys are made elsewhere, on purpose.
"""

from __future__ import annotations

import os
from pathlib import Path

from pypatcher.artifact.fit import check_target
from pypatcher.artifact.hashing import hash_without_region
from pypatcher.artifact.locate import locate_region, scan_regions
from pypatcher.artifact.patch import MAX_FILE_SIZE, PatchInfo, make_info
from pypatcher.artifact.region import HASH_SIZE, REGION_SIZE, VERSION_FIELD, pack_region
from pypatcher.artifact.replace import open_program, replacing, write_at
from pypatcher.errors import ArtifactError, RegionError, VersionError
from pypatcher.keys import KeyPair
from pypatcher.targets import Target
from pypatcher.version import Version

__all__ = ["sign_file", "signed_info"]


def sign_file(
    path: Path, key: KeyPair, version: Version | None, target: Target | None, out: Path | None = None
) -> PatchInfo:
    """Sign the program at ``path``.

    Args:
        path: an ELF program or a zipapp with a region.
        key: the owner's.
        version: the application's; None for the one that the build put into the region.
        target: what the file must be for; None for any.
        out: where the signed file goes; None replaces the one at ``path``.

    Raises:
        NoRegionError, RegionError: there is no region, more than one, or a damaged one.
        VersionError: no version, or one that cannot be announced.
        WrongTargetError: the file is for another target.
        ArtifactError: it is larger than 4 GiB or cannot be read.
        CannotReplaceError: it cannot be replaced with mode, owner and attributes kept. Nothing was changed.
    """
    with open_program(path) as fd:
        info, offset = signed_info(fd, key, version, target)
        region = pack_region(info)
        if out is None and os.pread(fd, REGION_SIZE, offset) == region:
            return info
    with replacing(path, out) as fd:
        # The copy is what gets signed: the file may have changed since it was looked at.
        info, offset = signed_info(fd, key, version, target)
        write_at(fd, pack_region(info), offset)
    return info


def signed_info(fd: int, key: KeyPair, version: Version | None, target: Target | None) -> tuple[PatchInfo, int]:
    """What ``sign_file`` writes into a file, and at which offset, after every check that it makes.

    Raises:
        As ``sign_file``.
    """
    located = locate_region(fd)
    regions = scan_regions(fd)
    if regions != [located.offset]:
        raise RegionError(
            f"it carries {len(regions)} signature regions, at {', '.join(map(str, regions))}: there must be exactly one"
        )
    file_size = os.fstat(fd).st_size
    if file_size > MAX_FILE_SIZE:
        raise ArtifactError(f"it has {file_size} bytes, more than the {MAX_FILE_SIZE} that are allowed")
    if version is None:
        version = _built_in_version(os.pread(fd, REGION_SIZE, located.offset))
    version.seq()
    if target is not None:
        check_target(fd, target)
    digest = hash_without_region(fd, file_size, located.offset)[:HASH_SIZE]
    return make_info(version, digest, file_size - REGION_SIZE, key), located.offset


def _built_in_version(region: bytes) -> Version:
    field = region[VERSION_FIELD]
    if not any(field):
        raise VersionError("the build put no version into the region: say which with --version")
    try:
        return Version.from_field(field)
    except VersionError as error:
        raise VersionError(f"the build put no usable version into the region ({error}): use --version") from None
