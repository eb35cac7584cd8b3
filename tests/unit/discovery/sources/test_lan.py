"""Neighbours by multicast (BEP 14): what is read, how often something is said, two nodes on one interface."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.addresses import Address
from pypatcher.discovery.sources import Found
from pypatcher.discovery.sources.lan import Lan, LanSchedule, decode_search, encode_search

SWARM = bytes(range(20))


def test_an_announcement_is_what_bep_14_shows() -> None:
    assert encode_search(SWARM, 6881, "abc", 4) == (
        b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n"
        b"Infohash: 000102030405060708090a0b0c0d0e0f10111213\r\ncookie: abc\r\n\r\n\r\n"
    )
    assert b"Host: [ff15::efc0:988f]:6771\r\n" in encode_search(SWARM, 6881, "abc", 6)


@pytest.mark.parametrize("family", [4, 6])
def test_others_are_heard_and_our_own_packets_are_not(family: int) -> None:
    packet = encode_search(SWARM, 6881, "abc", family)
    assert decode_search(packet, SWARM, "other") == 6881
    assert decode_search(packet, SWARM, "abc") is None


def test_a_client_with_several_swarms_and_other_spelling_is_heard() -> None:
    packet = (
        b"BT-SEARCH * HTTP/1.1\r\nhost: 239.192.152.143:6771\r\nport:51413\r\n"
        b"infohash: ffffffffffffffffffffffffffffffffffffffff\r\nINFOHASH: 000102030405060708090A0B0C0D0E0F10111213"
        b"\r\n\r\n\r\n"
    )
    assert decode_search(packet, SWARM, "abc") == 51413


@pytest.mark.parametrize(
    "change",
    [
        (b"6881", b"0"),
        (b"6881", b"65536"),
        (b"6881", b"-1"),
        (b"6881", b"6881\r\nPort: 6882"),
        (b"Port: 6881\r\n", b""),
        (b"000102", b"100102"),
        (b"BT-SEARCH", b"M-SEARCH"),
        (b"cookie: abc", b"x" * 1400),
    ],
)
def test_anything_else_is_nothing(change: tuple[bytes, bytes]) -> None:
    assert decode_search(encode_search(SWARM, 6881, "abc", 4).replace(*change), SWARM, "other") is None


@given(st.binary(max_size=1500))
def test_no_datagram_breaks_the_reader(data: bytes) -> None:
    decode_search(b"BT-SEARCH * HTTP/1.1\r\n" + data, SWARM, "abc")


def test_a_node_speaks_every_5_minutes_and_never_twice_a_minute() -> None:
    schedule = LanSchedule(random.Random(1), 0.0)
    spoken, now = [], 0.0
    while now < 7200.0:
        if schedule.due(now):
            spoken.append(now)
        schedule.heard((f"192.168.{int(now) >> 8 & 255}.{int(now) & 255}", 6881), now)
        now += 0.5
    assert spoken[0] <= 2.0
    assert all(later - sooner >= 60.0 for sooner, later in itertools.pairwise(spoken))
    quiet = LanSchedule(random.Random(1), 0.0)
    assert 12 <= sum(quiet.due(second) for second in range(3600)) <= 14


def test_a_flood_of_neighbours_is_cut() -> None:
    schedule = LanSchedule(random.Random(1), 0.0)
    assert sum(schedule.heard((f"10.0.{n >> 8}.{n & 255}", 6881), 5.5, near=False) for n in range(2000)) == 20


def test_one_loud_neighbour_silences_no_other_one() -> None:
    """The attack: 40 announcements a second from one address, each of another port, and nobody else was heard."""
    schedule, honest, heard, loud = LanSchedule(random.Random(1), 0.0), ("192.168.1.50", 6881), 0, 0
    for tick in range(40 * 600):
        loud += schedule.heard(("192.168.1.66", 1024 + tick), tick / 40)
        if tick % 400 == 0:
            heard += schedule.heard(honest, tick / 40)
    assert heard == 60
    assert loud <= 4 + 600 / 4


def test_forged_neighbours_silence_no_true_one() -> None:
    """The attack: 40 a second in the names of all other hosts of the /24, and of any beyond; before, none was heard."""
    rng = random.Random(1)
    schedule, honest, heard = LanSchedule(rng, 0.0), ("192.168.1.50", 6881), 0
    for tick in range(40 * 600):
        others = rng.choice([host for host in range(1, 255) if host != 50])
        schedule.heard((f"192.168.1.{others}", 1024 + tick), tick / 40)
        schedule.heard((f"10.0.{tick >> 8}.{tick & 255}", 6881), tick / 40, near=False)
        if tick % 2400 == 2399:
            heard += schedule.heard(honest, tick / 40)
    assert heard == 10


def test_a_neighbour_with_many_ports_pushes_no_other_one_out() -> None:
    schedule, honest = LanSchedule(random.Random(1), 0.0), ("192.168.1.50", 6881)
    schedule.heard(honest, 0.0)
    assert sum(schedule.heard(("192.168.1.66", 1024 + second), second) for second in range(1, 600)) > 100
    assert schedule.due(600.0)
    schedule.heard(honest, 601.0)
    assert schedule.wait(601.0) > 200.0, "who was known is not new"
    assert len(schedule._known) == 5


class Ear:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Address] = asyncio.Queue()

    def hear(self, found: Found) -> None:
        for address in found.addresses:
            self.queue.put_nowait(address)


async def test_two_nodes_on_one_interface_hear_each_other() -> None:
    loopback = [socket.if_nametoindex("lo")]
    ears = [Ear(), Ear()]
    swarm = random.Random(time.time_ns()).randbytes(20)
    nodes = [
        Lan(
            swarm,
            {4: 40000 + number},
            clock=asyncio.get_running_loop().time,
            rng=random.Random(time.time_ns() + number),
            interfaces=lambda: loopback,
        )
        for number in (1, 2)
    ]
    tasks = [asyncio.create_task(node.run(heard)) for node, heard in zip(nodes, ears, strict=True)]
    try:
        async with asyncio.timeout(10):
            _, port = await ears[0].queue.get()
        assert port == 40002
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
