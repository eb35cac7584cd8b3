"""Where a release goes that updates no program: a file that appears whole and verified, or not at all.

The ``Destination`` of the command ``fetch``. Downloads lie beside the file, private and with names of their own, and
are gone at the end, whatever happens. Not here: the program of a device and its way back (``install``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pypatcher.artifact import PatchInfo, verify_release
from pypatcher.artifact.replace import check_replaceable, open_program
from pypatcher.artifact.verify import read_release
from pypatcher.errors import ArtifactError, CannotReplaceError, NotNewerError
from pypatcher.file_parts import copy_part, write_part
from pypatcher.keys import OwnerKey
from pypatcher.regular_file import open_regular
from pypatcher.targets import Target
from pypatcher.trusted_path import open_folder, resolve
from pypatcher.version import Version

__all__ = ["Download", "OutFile"]


class Download:
    """A new private file beside the one that it may become."""

    def __init__(self, out: Path, folder: int, old: Sequence[Path] = ()) -> None:
        """Make it in the open ``folder`` of ``out``; ``old`` files may have parts of it.

        Raises:
            CannotReplaceError: nothing can be written there.
        """
        self._folder = folder
        self._old = old
        self.name = f".{out.name[:200]}.{secrets.token_hex(6)}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self.fd = os.open(self.name, flags, 0o600, dir_fd=folder)
        except OSError as error:
            raise CannotReplaceError(f"cannot write {out}: {error.strerror}") from None
        self.kept = False

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            OSError: the disk is full or broken.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    @property
    def size(self) -> int:
        """See ``Parts``."""
        return os.fstat(self.fd).st_size

    def read(self, size: int, offset: int) -> bytes:
        """See ``Parts``."""
        return os.pread(self.fd, size, offset)

    def open_again(self) -> int:
        """See ``Parts``; never what somebody else put at its name, for parts of it are given to others."""
        again = open_regular(self.name, folder=self._folder, follow=False)
        if not os.path.samestat(os.fstat(again), os.fstat(self.fd)):
            os.close(again)
            raise FileNotFoundError(errno.ENOENT, "a download was moved away", self.name)
        return again

    def sync(self) -> None:
        """See ``Parts``; a file that was not kept is gone with the process."""

    def leave(self) -> None:
        """Nobody goes on with it."""
        self.discard()

    def write_part(self, data: bytes, offset: int) -> None:
        """See ``Parts``."""
        write_part(self.fd, data, offset)

    def cut(self, size: int) -> None:
        """See ``Parts``."""
        if self.size > size:
            os.ftruncate(self.fd, size)

    def copy_part(self, source: int, start: int, offset: int, size: int) -> None:
        """See ``Parts``."""
        copy_part(source, start, self.fd, offset, size)

    @contextlib.contextmanager
    def old_files(self) -> Iterator[Sequence[tuple[int, int]]]:
        """See ``Parts``; what cannot be read is none."""
        with contextlib.ExitStack() as opened:
            found = []
            for path in self._old:
                with contextlib.suppress(ArtifactError):
                    fd = opened.enter_context(open_program(path))
                    found.append((fd, os.fstat(fd).st_size))
            yield found

    def discard(self) -> None:
        """Remove it unless it is kept; once is enough, more does nothing."""
        if not self.kept:
            self.remove()

    def remove(self) -> None:
        """Remove it, if it still has its name, and close it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.name, dir_fd=self._folder)


class OutFile:
    """The file ``out``; a context manager, at whose end nothing is left that was not kept.

    Args:
        target: what a release must be for; None for any.
        at_least: the lowest version that will do; that of the file which is there, if it is a newer release.
        old: files that may have parts of a release, beside the file that is there.
    """

    def __init__(
        self,
        out: Path,
        owner: OwnerKey,
        target: Target | None,
        at_least: Version | None,
        old: Sequence[Path] = (),
    ) -> None:
        self._out = out
        self._name = out.name
        self._old = (out, *old)
        self._owner = owner
        self._target = target
        self.at_least = at_least
        self._folder = -1
        self._download: Download | None = None
        self._there: PatchInfo | None = None
        self.info: PatchInfo | None = None
        """The release that is here, verified; ``keep`` makes it the file."""

    @property
    def staged_path(self) -> Path:
        """The file, as it will be called."""
        return self._out

    def preflight(self, size: int, *, allow_volatile: bool) -> None:
        """See ``Destination``.

        Raises:
            CannotReplaceError: there is no room.
        """
        free = shutil.disk_usage(self._out.parent).free
        if free < size:
            raise CannotReplaceError(f"cannot write {self._out}: {size} bytes are needed, {free} are free")

    def would_do(self, version: Version) -> bool:
        """Whether it is no older than the lowest version that will do."""
        return self.at_least is None or version >= self.at_least

    def check_wanted(self, version: Version, sha512: bytes = b"") -> None:
        """See ``Destination``.

        Raises:
            NotNewerError: what is here is as new, or this is older than will do.
        """
        if not self.would_do(version):
            raise NotNewerError(f"this is {version}, older than {self.at_least}")
        if self.info is not None and version <= self.info.version:
            raise NotNewerError(f"{version} is not newer than {self.info.version}")

    def new_partial(self, _info: PatchInfo | None = None) -> Download:
        """See ``Destination``.

        Raises:
            CannotReplaceError: nothing can be written there.
        """
        return Download(self._out, self._folder, self._old)

    def stage(
        self, partial: Download, expect: PatchInfo | None, said: Callable[[], object] = lambda: None
    ) -> PatchInfo:
        """See ``Destination``; ``expect`` None takes any release of the owner's.

        Raises:
            ArtifactError, NotNewerError, OSError: it is not wanted.
        """
        info = verify_release(partial.fd, self._owner, self._target, expect=expect).info
        self.check_wanted(info.version)
        if self._there is not None and info.version == self._there.version and info != self._there:
            raise NotNewerError(f"{self._out} is another file of version {info.version} already: move it away first")
        os.fchmod(partial.fd, 0o755)
        os.fsync(partial.fd)
        if self._download is not None:
            self._download.remove()
        partial.kept = True
        self._download, self.info = partial, info
        said()
        return info

    def forget(self) -> None:
        """What was staged will not do any more."""
        if self._download is not None:
            self._download.remove()
            self._download = self.info = None

    def keep(self) -> None:
        """Make what was staged the file.

        Raises:
            CannotReplaceError: it cannot be written there.
        """
        if self._download is not None:
            self._check_out()  # somebody may have put something else there meanwhile
            try:
                os.rename(self._download.name, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except OSError as error:
                raise CannotReplaceError(f"cannot write {self._out}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        """Say at once if nothing can be written there.

        Raises:
            CannotReplaceError: so it is.
        """
        real = resolve(self._out)
        self._name = real.name
        try:
            self._folder = open_folder(real.parent)
        except OSError as error:
            raise CannotReplaceError(f"cannot write {self._out}: {error.strerror}") from None
        try:
            self._check_out()
            self._there = self._release_there()
            if self._there is not None:
                self.at_least = max(self._there.version, self.at_least or self._there.version)
            Download(self._out, self._folder).discard()
        except CannotReplaceError:
            os.close(self._folder)
            raise
        return self

    def _check_out(self) -> None:
        check_replaceable(self._name, self._folder, self._out, self._is_owners, "release of this owner's")

    def _is_owners(self, fd: int) -> bool:
        """Whether the owner signed it; it may be damaged, or for another target."""
        try:
            read_release(fd).info.verify(self._owner)
        except ArtifactError:
            return False
        return True

    def _release_there(self) -> PatchInfo | None:
        """What the file is now, if it is a release of the owner's: nothing older takes its place, nor another build."""
        try:
            fd = open_regular(self._name, folder=self._folder, follow=False)
        except OSError:
            return None
        try:
            return verify_release(fd, self._owner, self._target).info
        except ArtifactError:
            return None
        finally:
            os.close(fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._download is not None:
            self._download.remove()
        os.close(self._folder)
