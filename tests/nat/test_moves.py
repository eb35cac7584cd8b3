"""Devices whose network changes under them, in the middle of a transfer or while idle: each still gets the release.

Real processes, routers and interfaces; the scenarios run side by side in one lab, and each test looks at one of them.
A release is several seconds long, by the holder's upload limit, so that every change hits a transfer in its middle.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program
from tests.nat.lab import Lab, open_lab
from tests.nat.matrix import tell_story
from tests.nat.public_dht import start_dht
from tests.nat.sites import Site, build_site

pytestmark = pytest.mark.timeout(420)

_BALLAST = 1_500_000
_UPLOAD = "150000"
_PATIENCE = 300.0
_NEW_ADDRESS = "192.168.1.77"
_NEW_ROUTE = "route replace default via 192.168.1.1"

# What `conntrack -F` does: one netlink message that deletes every entry of the table.
_FORGET = """
import socket, struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
    netlink.send(struct.pack("=IHHII", 20, 1 << 8 | 2, 5, 1, 0) + bytes(4))
    error = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
raise SystemExit(-error)
"""


@dataclass(frozen=True)
class MoveReport:
    """How it went: whether the seeker updated, the change hit a transfer in its middle, and the mover said where it is
    now."""

    updated: bool
    in_the_middle: bool
    noticed: bool
    story: str


def forget(world: Lab, site: Site) -> None:
    """The router was switched off and on: its table is empty, and it takes other ports than before."""
    rule = 'oifname "wan0" meta l4proto udp masquerade to :20000-29999'
    world.nft(site.routers[0], f"flush chain ip lab-nat out\nadd rule ip lab-nat out {rule}\n")
    world.run(site.routers[0], [sys.executable, "-c", _FORGET])


def change_interface(world: Lab, site: Site) -> None:
    """The cable is pulled; another interface, at another router, takes over."""
    other, host = build_site(world, "easy", 0), site.hosts[0].namespace
    world.link(other.routers[0], "port9", host, "wlan0")
    world.ip(other.routers[0], "link set port9 master lan0")
    world.ip(host, "link set eth0 down", f"addr add {_NEW_ADDRESS}/24 dev wlan0", f"{_NEW_ROUTE} dev wlan0")


def change_address(world: Lab, site: Site) -> None:
    """DHCP gives another address."""
    world.ip(site.hosts[0].namespace, "addr flush dev eth0", f"addr add {_NEW_ADDRESS}/24 dev eth0", _NEW_ROUTE)


@dataclass(frozen=True)
class Move:
    """A scenario: the places of holder and seeker, which of them moves, and how."""

    holder: str
    seeker: str
    mover: str
    how: Callable[[Lab, Site], None]
    idle: bool = False


MOVES = {
    "the seeker's router forgets": Move("public", "easy", "seeker", forget),
    "the holder's router forgets": Move("easy", "public", "holder", forget),
    "the seeker changes its interface": Move("public", "easy", "seeker", change_interface),
    "the holder changes its interface": Move("easy", "public", "holder", change_interface),
    "the seeker gets another address": Move("public", "easy", "seeker", change_address),
    "an idle device changes its interface": Move("public", "easy", "seeker", change_interface, idle=True),
}


async def _run(world: Lab, fleet: LabFleet, move: Move) -> MoveReport:
    sites = {"holder": build_site(world, move.holder), "seeker": build_site(world, move.seeker)}
    begin = time.monotonic()
    try:
        seeker = await fleet.start(sites["seeker"].hosts[0], "seeker", OLD)
        if move.idle:
            await seeker.until(lambda it: 1.0 if it.event("record.published") else None, 60)
            move.how(world, sites[move.mover])
            await seeker.until(_noticed, 60)
        holder = await fleet.start(sites["holder"].hosts[0], "holder", NEW, PYPATCHER_UPLOAD=_UPLOAD)
        middle = True
        if not move.idle:
            await seeker.until(_has_some, _PATIENCE)
            move.how(world, sites[move.mover])
            print(f"{time.monotonic() - begin:6.1f} s moved")
            middle = _has_some(seeker) is not None and _has_all(seeker) is None
        updated = await seeker.until(LabDevice.runs_new, _PATIENCE) is not None
        mover = {"holder": holder, "seeker": seeker}[move.mover]
        return MoveReport(updated, middle, _noticed(mover) is not None, tell_story(begin, seeker, holder))
    finally:
        await fleet.stop()


async def _run_all(names: Iterable[str]) -> dict[str, MoveReport]:
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder, _BALLAST), start_dht(world)
        runs = (
            _run(world, LabFleet(world, programs, bootstrap, f"move{number}"), MOVES[name])
            for number, name in enumerate(names)
        )
        return dict(zip(names, await asyncio.gather(*runs), strict=True))


def _has_some(device: LabDevice) -> float | None:
    """When a quarter of the release was there."""
    return _received(device, lambda received, size: received > size / 4)


def _has_all(device: LabDevice) -> float | None:
    return _received(device, lambda received, size: received == size)


def _received(device: LabDevice, enough: Callable[[int, int], bool]) -> float | None:
    said = ((when, event) for when, event in device.events if event["event"] == "fetch.progress")
    return next((when for when, event in said if enough(event["received"], event["size"])), None)


def _noticed(device: LabDevice) -> float | None:
    return _named(device, f"{_NEW_ADDRESS}:")


def _named(device: LabDevice, start: str) -> float | None:
    """When the device first said that it is at an address that begins so."""
    said = ((when, event) for when, event in device.events if event["event"] == "addresses.changed")
    return next((when for when, event in said if any(each.startswith(start) for each in event["addresses"])), None)


@pytest.fixture(scope="module")
def told() -> dict[str, MoveReport]:
    return asyncio.run(_run_all(MOVES))


@pytest.mark.parametrize("name", MOVES)
def test_a_device_gets_its_release_though_the_network_changes(name: str, told: dict[str, MoveReport]) -> None:
    assert told[name].updated, told[name].story
    assert told[name].in_the_middle, told[name].story


@pytest.mark.parametrize("name", [name for name, move in MOVES.items() if move.how is not forget])
def test_a_device_says_where_it_is_now(name: str, told: dict[str, MoveReport]) -> None:
    assert told[name].noticed, told[name].story


if __name__ == "__main__":
    for chosen, outcome in asyncio.run(_run_all(sys.argv[1:] or list(MOVES))).items():
        print(f"== {chosen}: {outcome.updated=} {outcome.in_the_middle=} {outcome.noticed=}\n{outcome.story}")
