"""What a program file on disk turns out to be, and the memory that keeps a start from hashing it several times.

`Examiner` opens an entry, verifies it from its descriptor and says what it found; it never raises for what is in a
file. A result is kept for as long as the file's inode, size, modification and change time stay the same, and only once
a later write would change those times: the clock is past them, or, where the clock is behind, they were the same 2
seconds ago. install.md itself goes by inode, size and modification time. Nothing is kept on disk: after a power cut
equal times prove nothing about content.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pypatcher.errors import ArtifactError, ForeignReleaseError
from pypatcher.install.file_stat import FileStat
from pypatcher.install.files import Files
from pypatcher.install.layout import Entry
from pypatcher.install.trial import ProgramId, TrialState
from pypatcher.shortage import is_shortage
from pypatcher.version import Version

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo, VerifiedRelease
    from pypatcher.keys import OwnerKey
    from pypatcher.targets import Target

__all__ = ["CANNOT_BE_UPDATED", "VOUCHED", "EntryKind", "Examined", "Examiner", "Verify", "owner_verifies", "vouched"]

CANNOT_BE_UPDATED = "cannot be updated"
"""What an error says of a program that is none, whatever the release: it is over when that is one again."""
_CHUNK = 1 << 16
_TICK = 2.0
"""Seconds; the coarsest times that a filesystem (FAT) keeps."""


class Verify(Protocol):
    """A function that verifies a file as a release; `owner_verifies` makes one."""

    def __call__(self, fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
        """Raises `ArtifactError` for whatever is wrong with the file."""


def owner_verifies(owner: OwnerKey, target: Target | None, previous: OwnerKey | None = None) -> Verify:
    """A device's own rule: `pypatcher.artifact.verify_release` for that owner and target.

    Args:
        owner: whose releases this device takes.
        previous: the owner's key before this one, which counts until a release of ``owner`` is the program.
        target: what they must be for; None in the namespace ``rustpatcher``.
    """

    def verify(fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
        from pypatcher.artifact import verify_release

        return verify_release(fd, owner, target, expect=expect, previous=previous)

    return verify


class EntryKind(Enum):
    """What kind of thing an entry of the disk is."""

    ABSENT = "absent"
    EMPTY = "0 bytes or only NULs"
    INVALID = "not a program that the owner signed"
    FOREIGN = "a whole program that none of our keys signed"
    GOOD = "a program that the owner signed"


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found at an entry of the disk.

    Attributes:
        id: which program, if it is a good one; ``info`` and ``stat`` belong to it.
        reason: why it is none.
        rank: which of our keys signed a good one: 0 the present one, 1 the one before, `VOUCHED` none of ours.
        foreign: which program, if none of our keys signed it.
    """

    kind: EntryKind
    id: ProgramId | None = None
    info: PatchInfo | None = None
    stat: FileStat | None = None
    reason: str = ""
    rank: int = 0
    foreign: ProgramId | None = None


_CHANGED = Examined(EntryKind.INVALID, reason="it changed while it was read")
_RENAMES = 4
"""Looks at an entry: one more than an activation has operations that change a file's status and not its content."""


class _RenamedError(Exception):
    """A file got or lost a name while it was read, or its mode or owner changed; nobody wrote to it."""


VOUCHED = -1
"""The rank of a program that ``trial.json`` knows by its hash, and that a newer key than ours signed."""


def vouched(found: Examined, state: TrialState | None) -> Examined:
    """A foreign program as a good one if ``trial.json`` knows its hash: it was verified when it came."""
    if found.foreign is None or state is None:
        return found
    known = {state.confirmed.sha512} | ({state.trial.program.sha512} if state.trial is not None else set())
    if found.foreign.sha512 not in known:
        return found
    return Examined(EntryKind.GOOD, found.foreign, stat=found.stat, rank=VOUCHED)


class Examiner:
    """Says what entries are; one for the life of an `Installation`."""

    def __init__(
        self,
        verify: Verify,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verify = verify
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._known: dict[tuple[int, int], Examined] = {}
        self._seen: dict[tuple[int, int], tuple[FileStat, float]] = {}
        """What was not old enough to be known, and when it was first seen so."""

    def examine(self, files: Files, entry: Entry) -> Examined:
        """What the entry is now; it is what it is only if two reads in a row fail.

        Looks again while only names change: an activation links the program and renames another one over it, and who
        asks without a lock may be reading either.

        Raises:
            OSError: the system lacks what a read takes, which says nothing about the file.
        """
        for _ in range(_RENAMES):
            with contextlib.suppress(_RenamedError):
                return self._read(files, entry)
        return _CHANGED

    def _read(self, files: Files, entry: Entry) -> Examined:
        try:
            return self._look(files, entry)
        except OSError:
            try:
                return self._look(files, entry)
            except OSError as error:
                if is_shortage(error):
                    raise
                return Examined(EntryKind.INVALID, reason=f"it cannot be read: {error.strerror}")

    def _look(self, files: Files, entry: Entry) -> Examined:
        try:
            fd = files.open(entry)
        except FileNotFoundError:
            return Examined(EntryKind.ABSENT, reason="there is no file")
        except OSError as error:
            if error.errno == errno.ELOOP:
                return Examined(EntryKind.INVALID, reason="it is a symbolic link")
            raise
        try:
            return self._examine(files, fd)
        finally:
            files.close(fd)

    def remember(self, files: Files, entry: Entry) -> None:
        """Keep what is known of a file although an operation of ours (a rename, a link) changed its change time."""
        stat = files.stat(entry)
        known = None if stat is None else self._known.get((stat.device, stat.inode))
        if stat is not None and known is not None and stat.same_content(known.stat):
            self._known[stat.device, stat.inode] = replace(known, stat=stat)

    def _examine(self, files: Files, fd: int) -> Examined:
        stat = files.fstat(fd)
        if not stat.regular:
            return Examined(EntryKind.INVALID, reason="it is not a regular file")
        file = (stat.device, stat.inode)
        known = self._known.get(file)
        if known is not None and known.stat == stat:
            return known
        settled = self._is_settled(file, stat)
        found = self._verified(files, fd, stat)
        now = files.fstat(fd)
        if now != stat:
            if now.same_content(stat):
                raise _RenamedError
            return _CHANGED
        self._known.pop(file, None)
        if settled:
            self._known[file] = found
        return found

    def _is_settled(self, file: tuple[int, int], stat: FileStat) -> bool:
        """Whether any write from now on will show in the file's times."""
        now = self._monotonic()
        seen, since = self._seen.pop(file, (stat, now))
        if self._now_ns() - max(stat.mtime_ns, stat.ctime_ns) > _TICK * 1e9 or (seen == stat and now - since > _TICK):
            return True
        self._seen[file] = (stat, since if seen == stat else now)
        return False

    def _verified(self, files: Files, fd: int, stat: FileStat) -> Examined:
        try:
            release = self._verify(fd)
        except ForeignReleaseError as error:
            foreign = ProgramId(error.sha512, Version.parse(error.version))
            return Examined(EntryKind.FOREIGN, stat=stat, reason=str(error), foreign=foreign)
        except ArtifactError as error:
            kind = EntryKind.EMPTY if _only_nuls(files, fd, stat.size) else EntryKind.INVALID
            return Examined(kind, stat=stat, reason=str(error))
        return Examined(
            EntryKind.GOOD, ProgramId(release.sha512, release.info.version), release.info, stat, rank=release.rank
        )


def _only_nuls(files: Files, fd: int, size: int) -> bool:
    """Whether the file holds nothing; a program shows otherwise in its first bytes.

    A file that is too large to be a program is not read for hours to find that out.
    """
    from pypatcher.artifact.patch import MAX_FILE_SIZE

    return size <= MAX_FILE_SIZE and not any(
        files.read(fd, _CHUNK, offset).strip(b"\0") for offset in range(0, size, _CHUNK)
    )
