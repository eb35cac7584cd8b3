"""Holder x seeker: in each cell one device has the new release, another wants it, and nobody helps them.

A cell says what should happen; hard x hard and the like have no way to each other, and must pass as soon as the fleet
has one more member that both can reach (``member``), which is told nothing of its role.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program, tell_story
from tests.nat.lab import open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import KINDS, build_site

__all__ = ["DEFAULT", "LAN", "QUICK", "Cell", "CellOutcome", "all_cells", "default_cells", "run_cells", "table"]

LAN = "same LAN"
_OPEN = {"public", "forward", "upnp"}
_HARD = {"hard", "ipv6"}
_IPV6 = {"public", "ipv6", "ipv6 alone"}
_NO_WAY_PATIENCE = 25.0


@dataclass(frozen=True)
class Cell:
    """Where the holder is, where the seeker is (``same LAN``: beside the holder), and a helpful third."""

    holder: str
    seeker: str
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.holder} x {self.seeker}" + (f" + {self.member}" if self.member else "")

    @property
    def has_way(self) -> bool:
        """Whether the release must arrive."""
        if "blocked" in (self.holder, self.seeker):
            return False
        if self.member or self.seeker == LAN:
            return True
        pair = {self.holder, self.seeker}
        if pair <= _IPV6:
            return True
        if "ipv6 alone" in pair:
            return False  # no protocol in common
        return bool(pair & _OPEN) or not pair & _HARD


@dataclass(frozen=True)
class Pace:
    """How often devices look and publish, and what is waited for, in seconds.

    Attributes:
        settings: of each device, as environment variables.
        ahead: so long the seeker has been up when the holder comes; 0: it comes after the holder.
        patience: for the release to arrive.
    """

    settings: dict[str, str]
    ahead: float
    patience: float


QUICK = Pace({}, 0, 180)  # on a busy machine; strangers who missed their first moment have others within two minutes
DEFAULT = Pace({"PYPATCHER_LOOK_INTERVAL": "", "PYPATCHER_PUBLISH_INTERVAL": ""}, 660, 1800)
"""As shipped, to a device that has been up for longer than the 10 minutes in which it looks often."""


@dataclass(frozen=True)
class CellOutcome:
    """What happened. ``seconds`` from the start of whoever started last until the new version ran at the seeker's."""

    cell: Cell
    updated: bool
    seconds: float
    dialed: str
    story: str

    @property
    def as_expected(self) -> bool:
        """Whether it is what must happen."""
        return self.updated == self.cell.has_way


def all_cells() -> list[Cell]:
    """The whole matrix, two devices in one LAN, and every pair without a way once more with a reachable member.

    Devices with IPv6 alone, whom most others have no protocol in common with, meet those that have it too.
    """
    kinds = [kind for kind in KINDS if kind not in ("blocked", "ipv6 alone")]
    pairs = [Cell(holder, seeker) for holder in kinds for seeker in kinds]
    pairs += [Cell("ipv6 alone", kind) for kind in ("public", "ipv6", "ipv6 alone", "easy")]
    pairs += [Cell(kind, "ipv6 alone") for kind in ("public", "ipv6", "easy")]
    lans = [Cell(kind, LAN) for kind in ("easy", "hard", "double")]
    helped = [Cell(each.holder, each.seeker, "public") for each in pairs if not each.has_way]
    blocked = [Cell("public", "blocked"), Cell("blocked", "public")]
    return [*pairs, *lans, *helped, *blocked]


def default_cells() -> list[Cell]:
    """The pairs of the three kinds that most devices are in, two in one LAN, and the helpful third."""
    kinds = ("public", "easy", "hard")
    pairs = [cell for holder in kinds for seeker in kinds if (cell := Cell(holder, seeker)).has_way]
    return [*pairs, Cell("easy", LAN), Cell("easy", "hard", "public"), Cell("hard", "hard", "public")]


async def run_cells(
    cells: Iterable[Cell],
    at_once: int = 20,
    said: Callable[[CellOutcome], None] = lambda _: None,
    pace: Pace = QUICK,
) -> list[CellOutcome]:
    """Run cells side by side in one world, each with a fleet and sites of its own."""
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder), start_dht(world)
        turn = asyncio.Semaphore(at_once)

        async def one(number: int, cell: Cell) -> CellOutcome:
            async with turn:
                holder_site = build_site(world, cell.holder, 2 if cell.seeker == LAN else 1)
                sites = [holder_site]
                if cell.seeker == LAN:
                    seeker_host = holder_site.hosts[1]
                else:
                    sites.append(build_site(world, cell.seeker))
                    seeker_host = sites[-1].hosts[0]
                if cell.member:
                    sites.append(build_site(world, cell.member))
                fleet = LabFleet(world, programs, bootstrap, f"cell{number}")
                try:
                    if cell.member:
                        await fleet.start(sites[-1].hosts[0], "member", OLD, **pace.settings)
                    if pace.ahead:
                        seeker = await fleet.start(seeker_host, "seeker", OLD, **pace.settings)
                        await asyncio.sleep(pace.ahead)
                    holder = await fleet.start(holder_site.hosts[0], "holder", NEW, **pace.settings)
                    begin = time.monotonic()
                    if not pace.ahead:
                        seeker = await fleet.start(seeker_host, "seeker", OLD, **pace.settings)
                    when = await seeker.until(LabDevice.runs_new, pace.patience if cell.has_way else _NO_WAY_PATIENCE)
                    outcome = CellOutcome(
                        cell,
                        when is not None,
                        (when or time.monotonic()) - begin,
                        _who_dialed(seeker) if when else "",
                        tell_story(begin, seeker, holder),
                    )
                finally:
                    await fleet.stop()
                    world.remove([name for site in sites for name in site.namespaces if site.kind != "upnp"])
                said(outcome)
                return outcome

        return list(await asyncio.gather(*(one(number, cell) for number, cell in enumerate(cells))))


def _who_dialed(seeker: LabDevice) -> str:
    """Who opened the connection that the release came over."""
    started = seeker.event("fetch.started") or {}
    by = "other" if started.get("source") == "an offer" else "seeker"
    return f"{by} ({started.get('peer', '')})"


def table(outcomes: Iterable[CellOutcome]) -> str:
    """The matrix for people: a line a cell."""
    lines = [f"{'holder x seeker':<28} {'updated':<8} {'seconds':>7}  {'dialed (peer)':<34} expected"]
    for each in outcomes:
        updated = "yes" if each.updated else "no"
        seconds = f"{each.seconds:7.1f}" if each.updated else f"{'-':>7}"
        surprise = "" if each.as_expected else "  <-- "
        verdict = "arrives" if each.cell.has_way else "no way"
        lines.append(f"{each.cell!s:<28} {updated:<8} {seconds}  {each.dialed:<34} {surprise}{verdict}")
    return "\n".join(lines)
