"""One transaction of the real code of ``install/`` on a simulated disk: where it could end, and what a cut leaves then.

A transaction depends on the disk, on who asks and on who else runs, not on what a bystander remembers: so it is run
once, and remembered for every world that differs in nothing else. Everything that is explored is made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pypatcher.artifact import VerifiedRelease
from pypatcher.errors import ForeignReleaseError
from pypatcher.install.installation import Installation
from pypatcher.install.partials import name_start
from pypatcher.install.starts import Caller
from tests.support.install_words import read_orders
from tests.support.install_world import DeviceState, Scenario, release
from tests.support.simdisk import Image, SimDisk, cut_images

__all__ = ["Accident", "Run", "Runs"]

_PROGRAM = Path("/d/P")
_REMEMBERED = 20_000


class Accident(NamedTuple):
    """What goes wrong within a transaction.

    Attributes:
        full_from: the disk is full from this operation on.
        hand: how a person changes P (``put``, ``overwrite``), to what, and before which operation; 0: after **Begin**.
    """

    full_from: int | None = None
    hand: tuple[str, bytes, int] | None = None


@dataclass(frozen=True)
class Run:
    """A transaction that ran.

    Attributes:
        points: the disk before each of its operations; there it could be killed.
        end: the disk after it.
        result: what it returned; None where the disk was full.
        accident: what went wrong.
        writes: the operations that need room, counted from 1.
        syncs: what it fsynced.
    """

    points: tuple[Image, ...]
    end: Image
    result: object
    accident: Accident
    writes: tuple[int, ...]
    syncs: frozenset[str]

    @cached_property
    def kills(self) -> tuple[tuple[int, Image], ...]:
        """The first operation before which a kill leaves each disk, and that disk."""
        first: dict[Image, int] = {}
        for number, image in enumerate(self.points):
            first.setdefault(image, number)
        return tuple((number, image) for image, number in first.items())

    @cached_property
    def cuts(self) -> tuple[tuple[int, bytes, Image], ...]:
        """The same for power cuts: operation, what was at P until then, and the disk that is left."""
        first: dict[tuple[bytes, Image], int] = {}
        for number, image in self.kills:
            content = image.content("P") or b""
            for outcome in cut_images(image):
                first.setdefault((content, outcome), number)
        return tuple((number, content, outcome) for (content, outcome), number in first.items())


class Runs:
    """Runs transactions for one scenario, each different one once."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._known: dict[object, Run] = {}

    def run(
        self, what: tuple[object, ...], world: DeviceState, code: Callable[[Installation], object], accident: Accident
    ) -> Run:
        """``what`` must tell the code apart from any other, with all that it gets besides the world's installation."""
        pid = None if world.running is None else world.running[0]
        key = (what, world.disk, pid, world.second, accident)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = self._run(what, world, code, accident)
        return self._known[key]

    def _run(
        self, what: tuple[object, ...], world: DeviceState, code: Callable[[Installation], object], accident: Accident
    ) -> Run:
        disk = SimDisk(world.disk)
        if accident.hand is not None:
            how, data, operation = accident.hand
            if operation:
                disk.before_operation = lambda number: disk.put("P", data) if number == operation else None
            else:
                disk.after_begin = lambda: getattr(disk, how)("P", data)
        disk.without_sync = self._scenario.without_sync
        disk.others_run = world.second
        disk.links = self._scenario.links
        disk.full_from = accident.full_from
        if what[0] == "stage":
            # Whatever a kill or a cut left, the download goes on with it.
            disk.partial_is_of = name_start(release(what[1]).info)
        try:
            result = code(self._installation(disk, world, what))
        except OSError:
            if accident.full_from is None:
                raise
            result = None
        return Run(tuple(disk.images), disk.image(), result, accident, tuple(disk.writes), frozenset(disk.syncs))

    def _installation(self, disk: SimDisk, world: DeviceState, what: tuple[object, ...]) -> Installation:
        spawned = len(what) == 2 and isinstance(what[1], Caller) and what[1].launcher == "spawn"
        disowned = spawned and world.disk.content("P") in self._scenario.disowned

        def verify(fd: int, expect: object = None, /) -> VerifiedRelease:
            found = release(disk.content(fd))
            if disowned:
                raise ForeignReleaseError("another key signed it", found.sha512, str(found.info.version))
            return found

        alive = set() if world.running is None else {world.running[0]}
        return Installation(
            _PROGRAM,
            verify,
            folders=disk.folders,
            lives=lambda pid, _: pid in alive,
            limits=self._scenario.limits,
            orders=read_orders,
        )
