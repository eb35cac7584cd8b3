"""One whole update of a real program on a real disk, in a process of its own, disturbed at any of its file operations.

Every change that the code of ``install/`` makes to a disk is one call of the ``os`` module, which is one system call.
`Disturbance` counts these calls in a forked child and, at one of them, kills the child just before, halfway or just
after, or lets it fail as a broken disk does. `python -m tests.support.one_update` is the same update for strace.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pypatcher.artifact import read_release, sign_file
from pypatcher.errors import CannotReplaceError, NotNewerError, PatcherError, RefusedReleaseError
from pypatcher.install import Caller, Installation, Launcher, Settled, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey
from tests.support.devices import compile_app, here, said_version

__all__ = [
    "CHANGING",
    "KEY",
    "SCENARIOS",
    "Disturbance",
    "Kit",
    "UpdateScenario",
    "check",
    "child",
    "complete_in_child",
    "disturb",
    "fresh",
    "perform_in_child",
    "steps_of",
]

KEY = KeyPair.from_seed(bytes(range(32)))
CHANGING = (
    "open",
    "write",
    "fsync",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "fchmod",
    "fchown",
    "setxattr",
    "pwrite",
    "ftruncate",
    "copy_file_range",
)
"""Calls that change a disk (``open`` where it creates), or make a change durable."""

_BOOT = "boot"


@dataclass(frozen=True)
class Kit:
    """Signed releases to update between: real ELF programs that say their version and end."""

    old: Path
    new: Path
    next: Path

    @staticmethod
    def build(folder: Path) -> Kit:
        """Compile and sign 1.0.0, 2.0.0 and 2.0.1."""
        folder.mkdir(exist_ok=True)
        built = []
        for version in ("1.0.0", "2.0.0", "2.0.1"):
            path = compile_app(folder / version, version)
            sign_file(path, KEY, None, here())
            built.append(path)
        return Kit(*built)


@dataclass(frozen=True)
class UpdateScenario:
    """``update``: stage, activate, start, confirm. ``rollback``: the new version fails three times instead."""

    kind: str
    launcher: Launcher

    def __str__(self) -> str:
        return f"{self.kind} under {self.launcher}"


SCENARIOS = tuple(
    UpdateScenario(kind, launcher)  # type: ignore[arg-type]
    for kind in ("update", "rollback")
    for launcher in ("run", "guard", "spawn")
)


class _Device:
    """The processes of one device, one after the other, as one object."""

    def __init__(self, program: Path, launcher: Launcher) -> None:
        self.launcher = launcher
        self.installation = Installation(
            program, owner_verifies(OwnerKey(KEY.public), here()), lives=lambda _pid, _started: False
        )
        self._starts = 0

    def start(self) -> Settled:
        """The next start; each is another process to the installation."""
        while True:
            self._starts += 1
            caller = Caller(self.launcher, _BOOT, f"{os.getpid()}-{self._starts}", 1 << 30, self._starts, main=True)
            settled = self.installation.settle(self.launcher, caller=caller)
            if not settled.must_exec:
                return settled

    def stage(self, release: Path) -> None:
        """Fetch from a peer that is a file."""
        with release.open("rb") as file:
            info = read_release(file.fileno()).info
            self.installation.check_wanted(info.version)
            partial = self.installation.new_partial(info)
            with partial:
                while chunk := file.read(8192):
                    partial.write(chunk)
                self.installation.stage(partial, info)


def perform(program: Path, kit: Kit, scenario: UpdateScenario) -> _Device:
    """The whole scenario from whatever is on disk; what cannot be done now is left to the next attempt."""
    device = _Device(program, scenario.launcher)
    device.start()
    with contextlib.suppress(NotNewerError, RefusedReleaseError, CannotReplaceError, OSError):
        device.stage(kit.new)
    device.start()
    if scenario.kind == "update":
        with contextlib.suppress(PatcherError, OSError):
            device.installation.confirm(_sha512(kit.new))
        return device
    for _ in range(4):
        with contextlib.suppress(PatcherError, OSError):
            device.installation.end_start(requested=False)
        device.start()
    return device


def _perform(program: Path, kit: Kit, scenario: UpdateScenario) -> str:
    perform(program, kit, scenario)
    return ""


def complete(program: Path, kit: Kit, scenario: UpdateScenario) -> str:
    """After a disturbance, undisturbed: what is wrong with the device, or empty when it ends as it should."""
    device = perform(program, kit, scenario)
    content = program.read_bytes()
    status = device.installation.status()
    if scenario.kind == "update":
        confirmed = status.trial is None and str(status.confirmed) == "2.0.0"
        return "" if content == kit.new.read_bytes() and confirmed else f"the update did not complete: {status}"
    refused = [refused.sha512 for refused in status.refused] == [_sha512(kit.new)]
    if content != kit.old.read_bytes() or status.trial is not None or not refused:
        return f"the rollback did not complete: {status}"
    device.stage(kit.next)
    device.start()
    device.installation.confirm(_sha512(kit.next))
    taken = program.read_bytes() == kit.next.read_bytes()
    return "" if taken else f"the next release is not taken: {device.installation.status()}"


def check(program: Path, kit: Kit) -> str:
    """Right after a disturbance: what is wrong at the program's path, or empty."""
    if not program.exists():
        return "there is no program"
    if program.read_bytes() not in (kit.old.read_bytes(), kit.new.read_bytes()):
        return "the program is neither the old nor the new one"
    try:
        said = said_version(program)
    except (OSError, subprocess.SubprocessError) as error:
        return f"the program does not start: {error}"
    return "" if said in ("1.0.0", "2.0.0") else f"the program says {said!r}"


@dataclass(frozen=True)
class Disturbance:
    """What happens at which file-changing call, counted from 1.

    ``how``: ``before``, ``after`` and ``half`` kill the process (``half``: of a write, half is done); ``stop`` stops it
    before the call; otherwise the name of an error that the call fails with, once; with ``+``, from there on.
    """

    point: int
    how: str

    def __str__(self) -> str:
        return f"{self.how} at call {self.point}"


class _Calls:
    """Stands in for functions of ``os`` in a child."""

    def __init__(self, disturbance: Disturbance | None) -> None:
        self.count = 0
        self.seen: list[str] = []
        self._disturbance = disturbance

    def install(self) -> None:
        """For the rest of this process."""
        for name in CHANGING:
            setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if name == "open" and not (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                return real(*arguments, **keywords)
            if name == "write" and arguments[0] <= 2:
                return real(*arguments, **keywords)
            self.count += 1
            self.seen.append(name)
            wanted = self._disturbance
            if wanted is None or not (self.count == wanted.point or ("+" in wanted.how and self.count > wanted.point)):
                return real(*arguments, **keywords)
            if wanted.how == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif wanted.how == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            elif wanted.how == "half" and name in ("write", "pwrite"):
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            elif wanted.how not in ("after", "half"):
                raise OSError(getattr(errno, wanted.how.rstrip("+")), os.strerror(errno.EIO))
            try:
                return real(*arguments, **keywords)
            finally:
                if wanted.how in ("after", "half"):
                    os.kill(os.getpid(), signal.SIGKILL)

        return call


@contextlib.contextmanager
def child(work: Callable[[], str], disturbance: Disturbance | None = None, notes: Path | None = None) -> Iterator[int]:
    """A forked child that does ``work``; its pid. It ends with 1 if ``work`` returns a complaint or raises."""
    pid = os.fork()
    if pid:
        yield pid
        return
    status = 1
    try:
        calls = _Calls(disturbance)
        if notes is not None:
            os.dup2(os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        calls.install()
        complaint = work()
        os.write(2, complaint.encode() or "\n".join(["", *calls.seen]).encode())
        status = 1 if complaint else 0
    except BaseException as error:
        os.write(2, repr(error).encode())
    finally:
        os._exit(status)


def _finish(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fresh(folder: Path, kit: Kit) -> Path:
    """An installed old program, alone in its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return Path(shutil.copy(kit.old, folder / "app"))


def steps_of(folder: Path, kit: Kit, scenario: UpdateScenario) -> list[str]:
    """The file-changing calls of an undisturbed scenario, in order."""
    program, notes = fresh(folder, kit), folder.with_suffix(".notes")
    with child(lambda: _perform(program, kit, scenario), notes=notes) as pid:
        status = _finish(pid)
    said = notes.read_text()
    assert status == 0, said
    complaint = check(program, kit) or complete_in_child(program, kit, scenario, notes)
    assert not complaint, complaint
    return said.split()


def complete_in_child(program: Path, kit: Kit, scenario: UpdateScenario, notes: Path) -> str:
    """`complete` in a process that was not disturbed."""
    with child(lambda: complete(program, kit, scenario), notes=notes) as pid:
        status = _finish(pid)
    return "" if status == 0 else notes.read_text() or f"status {status}"


def perform_in_child(program: Path, kit: Kit, scenario: UpdateScenario, notes: Path) -> int:
    """The scenario in a process of its own, undisturbed but by its disk; its exit status."""
    with child(lambda: _perform(program, kit, scenario), notes=notes) as pid:
        return _finish(pid)


def disturb(folder: Path, kit: Kit, scenario: UpdateScenario, disturbance: Disturbance) -> str:
    """Disturb one scenario, then look, then let the device go on: what is wrong, or empty."""
    program, notes = fresh(folder, kit), folder.with_suffix(".notes")
    with child(lambda: _perform(program, kit, scenario), disturbance, notes) as pid:
        status = _finish(pid)
    killed = disturbance.how in ("before", "after", "half")
    if status != (-signal.SIGKILL if killed else 0):
        return f"{scenario}, {disturbance}: ended with {status}: {notes.read_text()}"
    complaint = check(program, kit) or complete_in_child(program, kit, scenario, notes)
    return f"{scenario}, {disturbance}: {complaint}" if complaint else ""


def _sha512(path: Path) -> bytes:
    return hashlib.sha512(path.read_bytes()).digest()


if __name__ == "__main__":
    # PROGRAM KIT-FOLDER KIND LAUNCHER, for strace.
    _folder = Path(sys.argv[2])
    _kit = Kit(*(_folder / version for version in ("1.0.0", "2.0.0", "2.0.1")))
    perform(Path(sys.argv[1]), _kit, UpdateScenario(sys.argv[3], sys.argv[4]))  # type: ignore[arg-type]
