"""Against real libtorrent nodes: stored at them, looked up through them, looked up by them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator

import libtorrent
import pytest

from pypatcher.dht import MutableItem, UdpDht, mutable_target
from pypatcher.keys import KeyPair
from tests.support.libtorrent_nodes import Swarm, libtorrent_swarm

_NETWORKS = itertools.count(100)


def _expanded(pair: KeyPair) -> bytes:
    """The 64 bytes that libtorrent calls the private key (RFC 8032, 5.1.5, steps 1 and 2)."""
    key = bytearray(hashlib.sha512(pair.seed).digest())
    key[0] &= 0xF8
    key[31] = key[31] & 0x3F | 0x40
    return bytes(key)


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    async with libtorrent_swarm(24, f"127.90.{next(_NETWORKS)}") as nodes:
        yield nodes


async def test_what_we_store_at_libtorrent_nodes_another_of_us_finds(swarm: Swarm) -> None:
    pair = KeyPair.generate()
    item = MutableItem.sign(pair, os.urandom(32), (1 << 53) - 1, os.urandom(996))
    async with (
        UdpDht(("127.90.1.1", 0), bootstrap=swarm.addresses[:1], read_only=True) as writer,
        UdpDht(("127.90.1.2", 0), bootstrap=swarm.addresses[5:6], read_only=True) as reader,
    ):
        await writer.joined()
        await reader.joined()
        assert await writer.put_mutable(item) >= 18
        found = await reader.get_mutable(pair.public, item.salt)
        assert found.items == (item,)
        assert len(found.nodes) >= 15
        newer = MutableItem.sign(pair, item.salt, item.seq + 1, b"newer")
        assert await reader.put_mutable(newer, found) >= 15
        assert (await writer.get_mutable(pair.public, item.salt)).items[0] == newer
        assert await writer.put_mutable(item) < 8
        assert writer.external_address == writer.address


async def test_what_we_store_libtorrent_reads(swarm: Swarm) -> None:
    pair = KeyPair.generate()
    async with UdpDht(("127.90.2.1", 0), bootstrap=swarm.addresses[:1]) as dht:
        await dht.joined()
        assert await dht.put_mutable(MutableItem.sign(pair, b"salt", 7, b"from us")) >= 18
        session = swarm.sessions[9]
        session.dht_get_mutable_item(pair.public, b"salt")
        alert = await swarm.alert(session, libtorrent.dht_mutable_item_alert, lambda alert: alert.seq == 7)
        assert alert.key == pair.public


async def test_what_libtorrent_stores_we_read(swarm: Swarm) -> None:
    pair = KeyPair.generate()
    async with UdpDht(("127.90.3.1", 0), bootstrap=swarm.addresses[:1]) as dht:
        await dht.joined()
        swarm.sessions[2].dht_put_mutable_item(_expanded(pair), pair.public, b"from libtorrent", b"salt")
        async with asyncio.timeout(20):
            while not (found := await dht.get_mutable(pair.public, b"salt")).items:
                await asyncio.sleep(0.1)
        assert [item.value for item in found.items] == [b"from libtorrent"]


async def test_peers_are_announced_and_found_both_ways(swarm: Swarm) -> None:
    info_hash = os.urandom(20)
    async with (
        UdpDht(("127.90.4.1", 0), bootstrap=swarm.addresses[:1]) as ours,
        UdpDht(("127.90.4.2", 0), bootstrap=swarm.addresses[7:8]) as other,
    ):
        await ours.joined()
        await other.joined()
        assert await ours.announce_peer(info_hash) >= 18
        assert await other.get_peers(info_hash) == [ours.address]
        session = swarm.sessions[3]
        session.dht_get_peers(libtorrent.sha1_hash(info_hash))
        alert = await swarm.alert(session, libtorrent.dht_get_peers_reply_alert, lambda alert: bool(alert.peers()))
        assert alert.peers() == [ours.address]
        swarm.sessions[4].dht_announce(libtorrent.sha1_hash(info_hash), 4444, 0)
        expected = {ours.address, (swarm.addresses[4][0], 4444)}
        async with asyncio.timeout(10):
            while set(await other.get_peers(info_hash)) != expected:
                await asyncio.sleep(0.1)


async def test_libtorrent_nodes_that_know_only_us_meet_and_store_through_us() -> None:
    pair, info_hash = KeyPair.generate(), os.urandom(20)
    async with UdpDht(("127.91.1.1", 0)) as hub, libtorrent_swarm(2, "127.91.0", known=hub) as swarm:
        first, second = swarm.sessions
        first.dht_put_mutable_item(_expanded(pair), pair.public, b"kept by us" * 99, b"salt")
        first.dht_announce(libtorrent.sha1_hash(info_hash), 4444, 0)
        target = mutable_target(pair.public, b"salt")
        async with asyncio.timeout(20):
            while hub.by_family[4].server.items.get(target, time.monotonic()) is None:
                await asyncio.sleep(0.1)
        second.dht_get_mutable_item(pair.public, b"salt")
        await swarm.alert(second, libtorrent.dht_mutable_item_alert, lambda alert: alert.seq == 1)
        second.dht_get_peers(libtorrent.sha1_hash(info_hash))
        alert = await swarm.alert(second, libtorrent.dht_get_peers_reply_alert, lambda alert: bool(alert.peers()))
        assert alert.peers() == [(swarm.addresses[0][0], 4444)]
        assert {address[0] for address in hub.nodes()} == {address[0] for address in swarm.addresses}


async def test_over_ipv6_items_pass_both_ways() -> None:
    pair = KeyPair.generate()
    item = MutableItem.sign(pair, b"salt", 3, b"over IPv6")
    async with (
        libtorrent_swarm(4, "::1") as swarm,
        UdpDht(("::1", 0), bootstrap=swarm.addresses[:1]) as writer,
        UdpDht(("::1", 0), bootstrap=swarm.addresses[1:2]) as reader,
    ):
        await writer.joined()
        await reader.joined()
        assert await writer.put_mutable(item) >= 4
        assert (await reader.get_mutable(pair.public, b"salt")).items == (item,)
        session = swarm.sessions[2]
        session.dht_get_mutable_item(pair.public, b"salt")
        await swarm.alert(session, libtorrent.dht_mutable_item_alert, lambda alert: alert.seq == 3)
