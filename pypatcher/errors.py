"""Every error that pypatcher raises on purpose, in one tree.

What lives here: the classes a caller can act on, and nothing else. A message says what was wrong, with which
file or peer, and what to do about it. Secret keys never appear in a message.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "CannotReplaceError",
    "CodecError",
    "ContentMismatchError",
    "ForeignReleaseError",
    "KeyFileError",
    "ManifestError",
    "MinuteRefusedError",
    "NoRegionError",
    "NotNewerError",
    "NotSingleFileError",
    "PatcherError",
    "PeerBusyError",
    "PeerError",
    "PeerLacksError",
    "PortMapError",
    "RefusedReleaseError",
    "RegionError",
    "SettingError",
    "SignatureMismatchError",
    "StateError",
    "VersionError",
    "WrongTargetError",
    "WrongWholeError",
]


class PatcherError(Exception):
    """Base of everything that pypatcher raises on purpose."""


class SettingError(PatcherError):
    """A setting, argument or environment variable makes no sense."""


class KeyFileError(PatcherError):
    """A key, or a file that should hold one, cannot be used."""


class CodecError(PatcherError):
    """Bytes that do not follow their format (postcard, bencode, KRPC, records, frames)."""


class VersionError(PatcherError):
    """Text or numbers that are not a version we can carry."""


class ArtifactError(PatcherError):
    """A program file cannot be used as it is."""


class NoRegionError(ArtifactError):
    """The file carries no signature region."""


class RegionError(ArtifactError):
    """The file's region is doubled, truncated, damaged or not where its carrier puts it."""


class WrongTargetError(ArtifactError):
    """The file is not for the target in question."""


class ContentMismatchError(ArtifactError):
    """The file's length or hash is not what its region, or the announcement, says."""


class SignatureMismatchError(ArtifactError):
    """The owner did not sign this."""


class ManifestError(ArtifactError):
    """Bytes that are not the owner's word about a release, or terms that cannot be stated."""


class ForeignReleaseError(SignatureMismatchError):
    """A whole, undamaged release that none of our keys signed; ``sha512`` (64 bytes) is over its whole file."""

    def __init__(self, message: str, sha512: bytes = b"", version: str = "0.0.0") -> None:
        super().__init__(message)
        self.sha512 = sha512
        self.version = version


class WrongWholeError(PatcherError):
    """Chunk by chunk it is what a signed tree says, and as a whole not the release: no peer's fault."""


class NotNewerError(PatcherError):
    """The release is not newer than what this device runs or has confirmed."""


class RefusedReleaseError(PatcherError):
    """This device refused the release before, after it failed here."""


class CannotReplaceError(PatcherError):
    """The program at its path cannot be replaced here (permissions, room, filesystem, attributes)."""


class StateError(PatcherError):
    """What is on disk beside the program contradicts itself; nothing was changed."""


class NotSingleFileError(PatcherError):
    """The running program is not one file, so there is nothing that could be replaced."""


class PeerError(PatcherError):
    """A peer broke the protocol, stalled or went away. Its fault; the next peer may do better."""


class PeerBusyError(PeerError):
    """The peer serves as many others as it may just now. No fault at all: ask somebody else, or later."""


class PeerLacksError(PeerError):
    """The peer does not have what it is asked for, or not any more."""


class MinuteRefusedError(PeerError):
    """The peer's clock is another one; ``minute`` is what it shows (unix time / 60). Never set a clock from it."""

    def __init__(self, minute: int) -> None:
        super().__init__(f"the peer refused our minute; its own is {minute}")
        self.minute = minute


class PortMapError(PatcherError):
    """A router opens no port for us."""
