"""What is sent to whom, of those that somebody named: the queue and its shell, on virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from pypatcher.addresses import Address, is_lan
from pypatcher.dht import Answered
from pypatcher.discovery.census import Census
from pypatcher.discovery.sources import AddressLimits, Found
from pypatcher.discovery.sources.lan import NEIGHBOURS
from pypatcher.discovery.sources.slots import RECORDS
from pypatcher.discovery.sources.swarm import EVERYBODY, HOLDERS
from pypatcher.nat.hole_punching import HolePuncher
from pypatcher.nat.knock_queue import KnockQueue
from pypatcher.nat.ways import EveryWay
from tests.support.transport import ManualClock
from tests.support.virtual_time import run_virtual

HOUR = 3600.0
NAMED = [(f"192.168.1.{host}", 6881 + port) for host in range(10, 18) for port in range(5)]


class Neighbourhood:
    """A network that counts knocks, and where everybody answers alike."""

    def __init__(self, answer: Answered) -> None:
        self.knocks: list[float] = []
        self._answer = answer

    async def knock(self, _address: Address, *, tries: int) -> Answered:
        self.knocks += [asyncio.get_running_loop().time()] * (1 if self._answer is Answered.MEMBER else tries)
        return self._answer

    def own_addresses(self) -> tuple[Address, ...]:
        return ("20.1.1.1", 6881), ("192.168.1.5", 6881)


def named_for_an_hour(answer: Answered, kind: AddressLimits) -> tuple[list[float], list[Address]]:
    """When one of 40 LAN addresses was sent a knock, that are said to hold what is wanted, and who was dialed."""

    async def main() -> tuple[list[float], list[Address]]:
        clock = asyncio.get_running_loop().time
        network, opened = Neighbourhood(answer), list[Address]()
        queue = KnockQueue(random.Random(1), on_link=is_lan)
        ways = HolePuncher(queue, Census(clock), network, clock=clock, wall=lambda: 1.8e9 + clock())

        async def dial() -> None:
            while True:
                opened.append(await ways.next_open())

        tasks = [asyncio.create_task(ways.run()), asyncio.create_task(dial())]
        for _ in range(60):
            ways.hear(Found(kind, NAMED, may_hold_wanted=True))
            ways.note_holders(NAMED)
            await asyncio.sleep(HOUR / 60)
            opened += [address for address in NAMED if ways.is_open(address)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return network.knocks, opened

    return run_virtual(main())


@pytest.mark.parametrize("kind", [RECORDS, HOLDERS, EVERYBODY])
@pytest.mark.parametrize("answer", [Answered.NOBODY, Answered.STRANGER])
def test_lan_addresses_that_a_stranger_names_get_few_knocks(kind: AddressLimits, answer: Answered) -> None:
    """The attack: 322 packets, 82 of them first packets of QUIC, to 40 of 40 host:ports of a device's own LAN."""
    knocks, dialed = named_for_an_hour(answer, kind)
    assert dialed == []
    assert max(sum(start <= knock < start + 300 for knock in knocks) for start in knocks) <= 3


def test_a_lan_address_that_proves_itself_is_dialed() -> None:
    _, dialed = named_for_an_hour(Answered.MEMBER, RECORDS)
    assert dialed


def test_who_is_heard_by_multicast_is_knocked_at_at_once() -> None:
    knocks, _ = named_for_an_hour(Answered.NOBODY, NEIGHBOURS)
    assert len([knock for knock in knocks if knock < 30]) >= 40


def test_where_nobody_knocks_few_silent_lan_addresses_are_dialed() -> None:
    clock = ManualClock()
    ways, dialed = EveryWay(0.0, clock), 0
    for address in NAMED:
        if ways.is_open(address):
            dialed += 1
            ways.failed(address)
    assert dialed == 3
    assert ways.is_open(("192.168.2.9", 6881))
    clock.now += 300.0
    assert ways.is_open(NAMED[9])


def test_who_was_reached_is_dialed_though_its_network_is_silent() -> None:
    """The attack: 3 made-up addresses in records every 5 minutes hid every true holder of the same LAN."""
    ways = EveryWay(0.0, ManualClock())
    there, silent = NAMED[0], NAMED[1:4]
    ways.reached(there)
    for address in silent:
        ways.failed(address)
    assert [address for address in NAMED if ways.is_open(address)] == [there]
    ways.failed(there)
    assert not ways.is_open(there)
    for number in range(5000):
        ways.reached((f"10.0.{number >> 8}.{number & 255}", 1))
    assert len(ways._reached) == 4096
