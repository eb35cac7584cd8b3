"""Power cuts: QEMU is killed at an instant drawn within a phase of an update on the device; what is left is looked at.

One disk lives through all of them. After each cut the device is switched on, its kernel replays the journal, and
before anything else the program at the path is hashed and started: it must be exactly the release before or the one
that was being installed. Then the same update is asked for again and must complete. Every third release does not work
and must be rolled back, with power cuts as any other.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cross.workshop import StepFailedError, fresh_folder, run, say
from pypatcher.artifact import sign_file
from pypatcher.keys import KeyPair
from pypatcher.version import Version
from qemu.device import CACHE, Device
from qemu.machine.board import Board
from qemu.machine.contents import new_device
from qemu.machine.disk import check_disk, make_disk, read_file
from qemu.machine.guest import SLOW, fields_of
from qemu.machine.system import INSIDE, System
from qemu.programs import build_c

__all__ = ["cut_power"]

_MEGABYTES = 512
_FILLING = 1 << 19
_PROGRAM = "device/app"
_REHEARSALS = ("the first update", "the first rollback")
"""Without a cut: they tell how long the phases last."""
_QUIET = "start"
"""The phase in which nothing is written; cuts get into it, but none is aimed at it."""
_END = "end"
_OPTIONS = ("auto_da_alloc", "noauto_da_alloc")
"""With and without the help that ext4 gives programs that forget an fsync."""


def cut_power(device: Device, system: System, cuts: int, seed: int | None, *, careless: bool = False) -> int:
    """Cut the power so many times; returns how many bad states were found, each of which is said.

    Args:
        seed: of what is drawn: the releases, the phases and the instants in them.
        careless: an updater that forgets to fsync its files, up to its first bad state: that the test can fail.

    Raises:
        StepFailedError: the test itself cannot go on.
    """
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    say(f"power cuts on {device.target.name}, seed {seed}")
    start = time.monotonic()
    life = _Life(device, system, cuts, random.Random(seed), careless=careless)  # noqa: S311 (to be repeated)
    bad = life.go_through(cuts)
    where = ", ".join(f"{count} in {phase!r}" for phase, count in sorted(life.where.items()))
    say(f"power cuts on {device.target.name}, seed {seed}: {where}; {time.monotonic() - start:.0f} s")
    say(f"{life.points} points tried, {len(bad)} bad states")
    for complaint in bad:
        say(complaint)
    return len(bad)


class _Life:
    """The releases of one device, its disk, and what should be on it: ``_confirmed``, and ``_coming`` above it."""

    def __init__(self, device: Device, system: System, cuts: int, draw: random.Random, *, careless: bool) -> None:
        self.where: Counter[str] = Counter()
        self._device = device
        self._system = system
        self._draw = draw
        self._careless = careless
        work = fresh_folder(CACHE / "machine" / f"{device.target.name}-cuts")
        self._owner = KeyPair.from_seed(draw.randbytes(32))
        self._releases = _make_releases(device, self._owner, work, len(_REHEARSALS) + 2 * cuts, draw)
        content = new_device(work / "content", device, system)
        (content / "device").mkdir()
        run("cp", self._releases[0], content / _PROGRAM)
        run("cp", "-a", "--link", work / "releases", content / "srv" / "releases")
        self._disk = make_disk(work / "disk", content, _MEGABYTES)
        self._digests = [hashlib.sha512(release.read_bytes()).hexdigest() for release in self._releases]
        self._confirmed = 0
        self._coming = 1
        self._lasted: dict[tuple[bool, str], float] = {}

    @property
    def points(self) -> int:
        """How many cuts fell into an update; the others came just after its end."""
        return self.where.total() - self.where[_END]

    def go_through(self, cuts: int) -> list[str]:
        """All the cuts; returns what was wrong."""
        bad = []
        board = self._switch_on()
        try:
            bad += self._look(board, "the first start", {0})
            for what in _REHEARSALS:
                bad += self._complete(board, what, self._lasted)
            while self.points < cuts and self._coming < len(self._releases):
                phase, when = self._cut(board)
                self.where[phase] += 1
                name = f"cut {self.points}, {when}"
                board = self._switch_on()
                allowed = {self._outcome} if phase == _END else {self._confirmed, self._coming}
                bad += self._look(board, name, allowed)
                if bad and self._careless:
                    return bad
                bad += self._complete(board, name)
            if self.points < cuts:
                raise StepFailedError(f"of {self.where.total()} cuts only {self.points} fell into an update")
            board.send(json.dumps({"off": True}))
            board.wait_until_off(SLOW)
        finally:
            board.stop()
        check_disk(self._disk)
        if read_file(self._disk, f"/{_PROGRAM}") != self._releases[self._confirmed].read_bytes():
            bad.append("at the end: the disk does not hold the confirmed program, byte for byte")
        return bad

    @property
    def _outcome(self) -> int:
        """The release that the device has when the update is over."""
        return self._coming if _works(self._coming) else self._confirmed

    def _switch_on(self) -> Board:
        options = self._draw.choice(_OPTIONS[self._careless :])
        arguments = (self._device.target.name, self._owner.public.hex(), options, *(["careless"] * self._careless))
        first = (self._device.python, "/opt/machine/updater.py", *arguments)
        return Board(self._device.target, self._system, self._disk, *first, console=self._disk.with_name("console"))

    def _look(self, board: Board, when: str, allowed: set[int]) -> list[str]:
        """What is at the program's path right after a boot, and does it start?"""
        said = _line(board, "found")
        say(f"{when}: {self._name(said)}")
        good = any(said["found"] == self._digests[one] and said["says"] == _says(one) for one in allowed)
        return [] if good else [f"{when}: {self._name(said)}, not one of the releases {sorted(allowed)}"]

    def _complete(self, board: Board, when: str, lasted: dict[tuple[bool, str], float] | None = None) -> list[str]:
        """The update, to its end, and without a cut; notes in ``lasted`` how long its phases last."""
        board.send(json.dumps({"update": self._coming}))
        kind, phase, since = _works(self._coming), "", 0.0
        while phase != _END:
            said = _line(board, "phase")
            if phase and lasted is not None:
                lasted[kind, phase] = time.monotonic() - since
            phase, since = said["phase"], time.monotonic()
        outcome = self._outcome
        wanted = {
            "found": self._digests[outcome],
            "says": _says(outcome),
            "trial": None,
            "confirmed": _version(outcome),
        }
        self._confirmed, self._coming = outcome, self._coming + 1
        return [] if wanted.items() <= said.items() else [f"{when}: the update did not complete: {said}"]

    def _cut(self, board: Board) -> tuple[str, str]:
        """Begin the update, and cut it at an instant drawn within one of its phases; returns in which, and when."""
        kind = _works(self._coming)
        wanted = self._draw.choice([phase for known, phase in self._lasted if known == kind and phase != _QUIET])
        delay = self._draw.uniform(0, self._lasted[kind, wanted])
        board.send(json.dumps({"update": self._coming}))
        while (phase := _line(board, "phase")["phase"]) != wanted:
            pass
        time.sleep(delay)  # until the instant that was drawn
        for line in board.cut():
            phase = fields_of(line).get("phase", phase)
        return phase, f"{delay * 1000:.0f} ms after {wanted!r} began, in {phase!r} of release {self._coming}"

    def _name(self, said: dict[str, Any]) -> str:
        found = self._digests.index(said["found"]) if said["found"] in self._digests else said["found"]
        return f"release {found} is there and says {said['says']!r}"


def _make_releases(device: Device, owner: KeyPair, work: Path, count: int, draw: random.Random) -> list[Path]:
    """Sign so many of them, each with its own bytes nearly throughout; ``work/releases/NUMBER``."""
    built = build_c(device, _version(0), work / "built", INSIDE / "app.c").read_bytes()
    at = built.index(b"FILLING")
    folder = fresh_folder(work / "releases")
    releases = []
    for number in range(count):
        filling = (b"." if _works(number) else b"!") + draw.randbytes(_FILLING - 1)
        releases.append(folder / str(number))
        releases[-1].write_bytes(built[:at] + filling + built[at + _FILLING :])
        releases[-1].chmod(0o755)
        sign_file(releases[-1], owner, Version.parse(_version(number)), device.target)
    return releases


def _works(number: int) -> bool:
    return number % 3 != 2


def _version(number: int) -> str:
    return f"1.0.{number}"


def _says(number: int) -> str:
    return f"version {_version(number)}"


def _line(board: Board, name: str) -> dict[str, Any]:
    """The next line that has that field."""
    return fields_of(board.wait_for(name, lambda line: name in fields_of(line), SLOW))
