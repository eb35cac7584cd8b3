"""The first process of a device whose power is cut: updates one program as it is told, and tells how far it is.

It says ``{"found": ...}`` before it has touched anything. A request is a JSON line ``{"update": NUMBER}``; while that
release is staged, activated, started, and confirmed or rolled back, each phase begins with a line ``{"phase": ...}``.
Who has read such a line knows that all before it was done. ``{"off": true}`` switches the device off.

Arguments: the target, the owner's public key, options that the root file system is mounted with, and ``careless`` for
an updater that forgets to fsync its files.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pypatcher.artifact import read_release
from pypatcher.errors import NotNewerError, RefusedReleaseError
from pypatcher.install import Caller, Installation, owner_verifies
from pypatcher.install.files import OsFiles
from pypatcher.keys import OwnerKey
from pypatcher.targets import find_target

PROGRAM = Path("/device/app")
RELEASES = Path("/srv/releases")
STARTS = 4
"""Three that fail, and the one that goes back."""


class Device:
    """The program, its owner, and the wire."""

    def __init__(self, wire: Any, target: str, owner: bytes) -> None:
        self._wire = wire
        self._installation = Installation(
            PROGRAM, owner_verifies(OwnerKey(owner), find_target(target)), lives=lambda _pid, _started: False
        )
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._starts = 0

    def say(self, **fields: object) -> None:
        """A line on the wire; it is there when this returns."""
        self._wire.write(json.dumps(fields).encode("ascii") + b"\n")

    def look(self) -> dict[str, object]:
        """What is at the program's path, and what it says when it is started."""
        found = hashlib.sha512(PROGRAM.read_bytes()).hexdigest() if PROGRAM.exists() else "nothing"
        try:
            done = subprocess.run([PROGRAM], capture_output=True, text=True, timeout=60, check=False)
        except OSError as error:
            return {"found": found, "says": str(error), "fails": True}
        return {"found": found, "says": done.stdout.strip(), "fails": done.returncode != 0}

    def update(self, number: int) -> None:
        """From whatever is on disk to the release of that number, or back."""
        self.say(phase="stage")
        self._start()
        with contextlib.suppress(NotNewerError, RefusedReleaseError):
            self._stage(RELEASES / str(number))
        self.say(phase="activate")
        self._start()
        self.say(phase="start")
        if not self.look()["fails"]:
            self.say(phase="confirm")
            self._installation.confirm()
        else:
            self.say(phase="roll back")
            for _ in range(STARTS):
                self._installation.end_start(requested=False)
                self._start()
        status = self._installation.status()
        trial = None if status.trial is None else str(status.trial.version)
        self.say(phase="end", trial=trial, confirmed=str(status.confirmed), **self.look())

    def _start(self) -> None:
        """The next start, of another process each time."""
        self._starts += 1
        caller = Caller("run", self._boot, f"start {self._starts}", 1 << 30, self._starts, main=True)
        self._installation.settle("run", caller=caller)

    def _stage(self, release: Path) -> None:
        with release.open("rb") as file:
            info = read_release(file.fileno()).info
            self._installation.check_wanted(info.version)
            partial = self._installation.new_partial()
            with partial:
                while chunk := file.read(1 << 14):
                    partial.write(chunk)
                self._installation.stage(partial, info)


def main() -> None:
    """Until the power goes."""
    with next(Path("/dev").glob("vport*")).open("r+b", buffering=0) as wire:
        target, owner, options, *manner = sys.argv[1:]
        if manner == ["careless"]:
            OsFiles.sync = lambda _self, _fd: None  # type: ignore[assignment, method-assign]
        _busybox("mount", "-o", f"remount,{options}", "/")
        device = Device(wire, target, bytes.fromhex(owner))
        device.say(**device.look())
        pending = b""
        while chunk := wire.read(4096):
            *requests, pending = (pending + chunk).split(b"\n")
            for request in map(json.loads, requests):
                if "update" in request:
                    device.update(request["update"])
                else:
                    _busybox("mount", "-o", "remount,ro", "/")
                    _busybox("poweroff", "-f")


def _busybox(*words: str) -> None:
    subprocess.run(["/bin/busybox", *words], check=True)


if __name__ == "__main__":
    main()
