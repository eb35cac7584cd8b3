"""``netcheck`` counts as reached who proves to be of the fleet, and nobody else."""

from __future__ import annotations

import socket
import time

from pypatcher.dht import UdpDht
from pypatcher.discovery import Namespace
from pypatcher.discovery.census import Census
from pypatcher.discovery.sources import Found
from pypatcher.discovery.sources.slots import RECORDS
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.netcheck.probe import knock_at_fleet
from pypatcher.node.cache import Memory
from pypatcher.node.network import open_network
from pypatcher.settings import Settings


async def test_a_member_is_reached_and_a_stranger_or_a_silent_one_is_not() -> None:
    namespace = Namespace.ours("linux_amd64", OwnerKey(KeyPair.generate().public))
    settings = Settings(bind=(("127.0.0.1", 0),), bootstrap=())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        async with (
            open_network(namespace, settings, Memory()) as asking,
            open_network(namespace, settings, Memory()) as member,
            UdpDht([("127.0.0.1", 0)]) as stranger,
        ):
            there = member.endpoint.addresses[0]
            named = {there, stranger.address, mute.getsockname()}
            census = Census(time.monotonic)
            census.hear(Found(RECORDS, tuple(named)), asking.endpoint.addresses)
            assert await knock_at_fleet(asking, census) == 3
            assert set(census.proven) == {there}
            assert set(census.heard) == named
