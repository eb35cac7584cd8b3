"""What the running program is: ``Version.current()`` and ``Patch.from_self()`` of the public API.

Read from the program's own file, which changes only at a start or restart. Nothing here talks to the network.
"""

from __future__ import annotations

import os
from functools import cache

from pypatcher import artifact, version
from pypatcher.errors import ArtifactError, NotSingleFileError
from pypatcher.process import detect
from pypatcher.regular_file import open_regular

__all__ = ["Patch", "Version"]


class Version(version.Version):
    """A version of an application: ``major.minor.patch``."""

    __slots__ = ()

    @classmethod
    def current(cls, default: str | None = None) -> Version:
        """The version of the running program, from the region in its file.

        Args:
            default: what to say instead of raising where there is none, such as "0.0.0" when run from its sources.

        Raises:
            NotSingleFileError: this is no single-file program.
            ArtifactError: it carries no region, or a damaged one.
            VersionError: ``default`` is no version.
        """
        try:
            running = _read_self().version
        except (NotSingleFileError, ArtifactError):
            if default is None:
                raise
            running = cls.parse(default)
        return cls(running.major, running.minor, running.patch)


class Patch(artifact.Patch):
    """A release as it travels: what the owner signed about it, and the whole signed file."""

    __slots__ = ()

    @classmethod
    def from_self(cls) -> Patch:
        """The running program as a release, whole in memory.

        Raises:
            NotSingleFileError: this is no single-file program.
            ArtifactError: it carries no region, or a damaged one.
        """
        return cls(_read_self(), detect().path.read_bytes())


@cache
def _read_self() -> artifact.PatchInfo:
    descriptor = open_regular(detect().path)
    try:
        return artifact.read_release(descriptor).info
    finally:
        os.close(descriptor)
