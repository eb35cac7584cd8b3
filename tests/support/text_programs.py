"""Programs for tests of the installation: a line of text each, and a verifier that takes them for signed releases.

What a signature is worth is tested with the artifacts; here only matters what the device does with good and bad files.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pypatcher.artifact import Carrier, PatchInfo, VerifiedRelease
from pypatcher.artifact.locate import Located
from pypatcher.errors import ContentMismatchError, NoRegionError
from pypatcher.version import Version

__all__ = ["program", "release_of", "verify_program", "write_program"]

_LIMIT = 1 << 20


def program(version: str, text: str = "") -> bytes:
    """A program's bytes; another ``text`` is another build of the same version."""
    return f"PROGRAM {version} {text} END".encode()


def release_of(data: bytes) -> VerifiedRelease:
    """What the bytes are as a release.

    Raises:
        ArtifactError: they are none.
    """
    words = data.split(b" ")
    if words[0] != b"PROGRAM" or len(words) < 3:
        raise NoRegionError("it carries no region")
    if words[-1] != b"END":
        raise ContentMismatchError("it is truncated or changed")
    digest = hashlib.sha512(data).digest()
    info = PatchInfo(Version.parse(words[1].decode()), len(data), digest[:32], bytes(64))
    return VerifiedRelease(info, Located(Carrier.TAIL, len(data)), digest)


def verify_program(fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
    """Stands for `pypatcher.artifact.verify_release`."""
    released = release_of(os.pread(fd, _LIMIT, 0))
    if expect is not None and expect != released.info:
        raise ContentMismatchError("it is not what was announced")
    return released


def write_program(path: Path, version: str, text: str = "", mode: int = 0o755) -> Path:
    """A program as a build tool or a person leaves it: a new file, renamed over what was there."""
    beside = path.with_name(path.name + ".build")
    beside.write_bytes(program(version, text))
    beside.chmod(mode)
    beside.rename(path)
    return path
