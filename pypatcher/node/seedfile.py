"""Signed files that are offered without being installed: for which devices each is, and whether it still is itself.

A file is verified whole before it is offered, from one descriptor, and offered only as long as everything that the
kernel says about it stays as it was then: a changed or replaced file is verified again first. Nothing here knows of
the network.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pypatcher.artifact import verify_release
from pypatcher.artifact.program import examine_program
from pypatcher.artifact.replace import open_program
from pypatcher.backoff import Backoff
from pypatcher.discovery import Namespace
from pypatcher.errors import ArtifactError, ContentMismatchError, SettingError
from pypatcher.events import Emit, ReleaseWithheld
from pypatcher.install import LocalRelease
from pypatcher.keys import OwnerKey
from pypatcher.node.device import NamespaceKind
from pypatcher.targets import Target, find_target

__all__ = ["SeedFile", "choose_files"]

_Stamp: TypeAlias = tuple[int, ...]


class SeedFile:
    """A file for the devices of one namespace; symbolic links are followed.

    Args:
        target: what it must be for; None for any (namespace ``rustpatcher``).

    Attributes:
        held: the file as it was verified; None as long as it may not be offered.
    """

    def __init__(self, path: Path, namespace: Namespace, target: Target | None) -> None:
        self.path = path
        self.namespace = namespace
        self.held: LocalRelease | None = None
        self._target = target
        self._judged: _Stamp | None = None
        self._seen: _Stamp | None = None
        self._pauses = Backoff(5.0, 600.0)
        self._again = 0.0
        self._trouble = ""

    def verify(self) -> None:
        """Check everything about it, as a device does; it may be offered then.

        Raises:
            ArtifactError: it may not, or it cannot be read.
        """
        self._judged, self.held = self._verified()

    def is_unchanged(self) -> bool:
        """Whether it may be offered and is what was verified, by its inode, size and times."""
        return self.held is not None and _stamp(self.path) == self._judged

    async def look(self, emit: Emit) -> bool:
        """Look whether it changed; what did is verified again once it rests. Whether ``held`` is another one now."""
        stamp = _stamp(self.path)
        if stamp == self._judged:
            return False
        was_held, self.held, self._judged = self.held is not None, None, None
        if was_held:
            what = "is gone" if stamp is None else "was changed or replaced, and is verified again"
            emit(ReleaseWithheld(str(self.path), f"it {what}"))
        if stamp is None or stamp != self._seen:
            self._seen, self._again, self._trouble = stamp, 0.0, ""
            return was_held
        if time.monotonic() < self._again:
            return was_held
        try:
            self._judged, self.held = await asyncio.to_thread(self._verified)
            self._pauses.succeed()
        except ArtifactError as error:
            # Where it could not be read nothing is known of it yet.
            if type(error) is ArtifactError:
                self._again = time.monotonic() + self._pauses.fail()
            else:
                self._judged = stamp
            if str(error) != self._trouble:
                emit(ReleaseWithheld(str(self.path), str(error)))
            self._trouble = str(error)
        return was_held or self.held is not None

    def _verified(self) -> tuple[_Stamp, LocalRelease]:
        try:
            with open_program(self.path) as fd:
                before = _stamp_of(os.fstat(fd))
                release = verify_release(fd, self.namespace.owner, self._target)
                if _stamp_of(os.fstat(fd)) != before:
                    raise ContentMismatchError("it changed while it was read: wait until it is complete")
        except OSError as error:
            raise ArtifactError(f"it cannot be read: {error.strerror}") from None
        return before, LocalRelease(self.path, release.info, release.sha512)


def choose_files(
    paths: Sequence[Path], keys: Mapping[str | None, OwnerKey], wanted: Iterable[Target], kind: NamespaceKind
) -> list[SeedFile]:
    """One verified file for each target, in the order of ``paths``.

    What every command of the desk asks is asked first.

    Args:
        keys: the owner's, by target; None for every target.
        wanted: which targets a file is for that fits several.

    Raises:
        SettingError: it cannot be told which file is for which target, two are for one, or a key is missing.
        ArtifactError: a file is not what its owner signed, or for no target.
    """
    chosen = _for_rustpatcher(paths, keys, wanted) if kind == "rustpatcher" else _by_target(paths, keys, wanted)
    for file in chosen:
        try:
            file.verify()
        except ArtifactError as error:
            raise _not_offered(file.path, error) from None
    return chosen


def _by_target(paths: Sequence[Path], keys: Mapping[str | None, OwnerKey], wanted: Iterable[Target]) -> list[SeedFile]:
    names, chosen = dict.fromkeys(target.name for target in wanted), dict[str, SeedFile]()
    for path in paths:
        fits = _fits(path)
        mine = sorted(fits) if len(fits) == 1 else [name for name in names if name in fits]
        if not mine:
            raise SettingError(f"{path} fits {', '.join(sorted(fits))}: say by --target for which it is offered")
        for name in mine:
            if name in chosen:
                raise SettingError(f"{chosen[name].path} and {path} are both for target {name}: give one of them")
            key = keys.get(name, keys.get(None))
            if key is None:
                raise SettingError(f"--public-key: none of the keys is for target {name}, which {path} is for")
            chosen[name] = SeedFile(path, Namespace.ours(name, key), find_target(name))
    if idle := [name for name in names if name not in chosen]:
        raise SettingError(f"--target {idle[0]}: none of the files is for it")
    return list(chosen.values())


def _for_rustpatcher(
    paths: Sequence[Path], keys: Mapping[str | None, OwnerKey], wanted: Iterable[Target]
) -> list[SeedFile]:
    targets = list(wanted)
    if len(paths) > 1 or len(targets) > 1:
        raise SettingError("the namespace rustpatcher knows no targets: give one file, and --target once at most")
    path, target = paths[0], targets[0] if targets else None
    fits = _fits(path, any_machine=True)
    names = {target.name} if target else fits
    key = keys.get(None) if len(names) != 1 else keys.get(min(names), keys.get(None))
    if key is None:
        raise SettingError(f"--public-key: none of the keys is for {path}: give one without a target")
    return [SeedFile(path, Namespace.rustpatcher(key), target)]


def _fits(path: Path, *, any_machine: bool = False) -> frozenset[str]:
    try:
        with open_program(path) as fd:
            program = examine_program(fd)
            program.check_for(None, any_machine=any_machine)
            program.check_region()
            return program.fits
    except ArtifactError as error:
        raise _not_offered(path, error) from None


def _not_offered(path: Path, error: ArtifactError) -> ArtifactError:
    return type(error)(f"{path} is not offered: {error}")


def _stamp(path: Path) -> _Stamp | None:
    """Of the file there; None without one."""
    try:
        return _stamp_of(path.stat())
    except OSError:
        return None


def _stamp_of(found: os.stat_result) -> _Stamp:
    """What changes whenever the file does."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
