"""Whether a file is what its owner signed, and lies as it must: the checks of a device, from a descriptor.

design.md "Transport and transfer", in its order: announced info equals received info, length, hash, signature, region's
place, target. Nothing here knows which versions a device already has; that decision is made in ``pypatcher.install``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pypatcher.artifact.fit import check_target
from pypatcher.artifact.hashing import hash_both, hash_without_region
from pypatcher.artifact.locate import Located, locate_region
from pypatcher.artifact.patch import MAX_FILE_SIZE, PatchInfo
from pypatcher.artifact.region import HASH_SIZE, REGION_SIZE, unpack_region
from pypatcher.errors import ContentMismatchError, ForeignReleaseError, SignatureMismatchError
from pypatcher.keys import OwnerKey
from pypatcher.targets import Target

__all__ = [
    "ClaimedRelease",
    "VerifiedRelease",
    "check_content",
    "check_intact",
    "check_release",
    "read_region",
    "read_release",
    "verify_content",
    "verify_release",
]


@dataclass(frozen=True, slots=True)
class ClaimedRelease:
    """What a file's region says, unverified, and where it is."""

    info: PatchInfo
    located: Located
    file_size: int


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """A file that passed every check.

    Attributes:
        sha512: 64 bytes over the whole file, region included.
        rank: which of the owner's keys signed it: 0 the present one, 1 the one before.
    """

    info: PatchInfo
    located: Located
    sha512: bytes
    rank: int = 0


def read_region(fd: int, offset: int) -> PatchInfo:
    """What the region at ``offset`` says; nothing is verified.

    Raises:
        RegionError: there is none.
        OSError: reading failed.
    """
    return unpack_region(os.pread(fd, REGION_SIZE, offset))


def read_release(fd: int) -> ClaimedRelease:
    """Read a file's region from the place where its carrier puts it. Nothing is hashed.

    Raises:
        NoRegionError: the file carries none.
        RegionError: it is damaged, or its place cannot be told.
        OSError: reading failed.
    """
    located = locate_region(fd)
    return ClaimedRelease(read_region(fd, located.offset), located, os.fstat(fd).st_size)


def check_content(fd: int, info: PatchInfo, offset: int) -> None:
    """Check a file's length and hash against ``info``, its region being at ``offset``.

    Raises:
        ContentMismatchError: length or hash are others.
        OSError: reading failed.
    """
    file_size = _check_length(fd, info)
    _check_digest(hash_without_region(fd, file_size, offset), info)


def verify_content(fd: int, info: PatchInfo, offset: int, owner: OwnerKey) -> None:
    """Check a file's length, hash and signature against ``info``, its region being at ``offset``.

    Raises:
        ContentMismatchError: length or hash are others.
        SignatureMismatchError: ``owner`` did not sign it.
        OSError: reading failed.
    """
    check_content(fd, info, offset)
    info.verify(owner)


def check_release(
    fd: int, owner: OwnerKey, target: Target | None, *, expect: PatchInfo | None = None
) -> ClaimedRelease:
    """Check everything about a release that its file can tell; ``verify_release`` without the whole file's hash.

    Raises:
        As ``verify_release``.
    """
    release = _read_expected(fd, expect)
    verify_content(fd, release.info, release.located.offset, owner)
    if target is not None:
        check_target(fd, target)
    return release


def verify_release(
    fd: int,
    owner: OwnerKey,
    target: Target | None,
    *,
    expect: PatchInfo | None = None,
    previous: OwnerKey | None = None,
) -> VerifiedRelease:
    """Check everything about a release that its file can tell, and hash the whole file on the way.

    Args:
        fd: a readable regular file; its position is neither used nor changed.
        owner: whose signature counts.
        target: what the file must be for; None for any (namespace ``rustpatcher``).
        expect: what was announced; the file must be exactly that.
        previous: the owner's key before this one, whose signature counts too; the result's ``rank`` tells which it was.

    Raises:
        NoRegionError, RegionError: no region where its carrier puts it, or a damaged one.
        ContentMismatchError: not what was announced, or another length or hash.
        ForeignReleaseError: neither key signed it.
        WrongTargetError: it is for another target.
        ArtifactError: a zipapp's members cannot be read.
        OSError: reading failed.
    """
    release = _hash_expected(fd, expect)
    try:
        release.info.verify(owner)
    except SignatureMismatchError as error:
        if previous is None or not release.info.is_signed_by(previous):
            raise ForeignReleaseError(str(error), release.sha512, str(release.info.version)) from None
        release = replace(release, rank=1)
    if target is not None:
        check_target(fd, target)
    return release


def check_intact(fd: int, expect: PatchInfo | None = None) -> VerifiedRelease:
    """Check that a file is undamaged, as `verify_release`, WITHOUT asking who signed it or for which target.

    For looking at files that were verified when they came; what comes from elsewhere is for `verify_release`.

    Raises:
        As `verify_release`, but for signature and target.
    """
    return _hash_expected(fd, expect)


def _hash_expected(fd: int, expect: PatchInfo | None) -> VerifiedRelease:
    release = _read_expected(fd, expect)
    info, located = release.info, release.located
    digest, whole = hash_both(fd, _check_length(fd, info), located.offset)
    _check_digest(digest, info)
    return VerifiedRelease(info, located, whole)


def _read_expected(fd: int, expect: PatchInfo | None) -> ClaimedRelease:
    release = read_release(fd)
    if expect is not None and release.info != expect:
        raise ContentMismatchError(f"the file, version {release.info.version}, is not what was announced")
    return release


def _check_length(fd: int, info: PatchInfo) -> int:
    if not info.is_signed:
        raise ContentMismatchError("it is not signed yet: use 'pypatcher sign'")
    file_size = os.fstat(fd).st_size
    if file_size > MAX_FILE_SIZE:
        raise ContentMismatchError(f"the file has {file_size} bytes, more than the {MAX_FILE_SIZE} that are allowed")
    if file_size != info.file_size:
        what = "truncated" if file_size < info.file_size else "too long"
        raise ContentMismatchError(f"the file is {what}: {file_size} bytes instead of {info.file_size}")
    return file_size


def _check_digest(digest: bytes, info: PatchInfo) -> None:
    if digest[:HASH_SIZE] != info.hash:
        raise ContentMismatchError("the file's hash is not the signed one: it is damaged or was changed")
