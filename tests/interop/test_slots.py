"""Minute slots on nodes that are not ours: what we store on libtorrent's, read back by nothing of ours, and the tracker
over a testnet and over libtorrent nodes."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import libtorrent as lt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pypatcher.addresses import Address
from pypatcher.dht import MutableItem, Testnet, UdpDht
from pypatcher.discovery import Namespace, Record, Slot, Tracker, encode_content, encrypt_record
from pypatcher.keys import KeyPair
from tests.support.discovery import MINUTE, OURS, OWNER, RUST, MinuteClock, node, release
from tests.support.rust_formulas import open_record, public_of, read_patch_info, slot_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODES = 10
HINTS: list[Address] = [("192.0.2.7", 6881), ("2001:db8::7", 6881), ("10.0.0.7", 4000)]


def start_node(host: str) -> lt.session:
    return lt.session(
        {
            "listen_interfaces": f"{host}:6881",
            "outgoing_interfaces": host,
            "enable_dht": True,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "dht_bootstrap_nodes": "",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_upload_rate_limit": 10_000_000,
            "dht_block_ratelimit": 1000,
        }
    )


def ask(address: Address, query: bytes, arguments: dict[bytes, Any]) -> dict[bytes, Any] | None:
    """One KRPC query from a plain socket, encoded by libtorrent; None without an answer."""
    message = {b"a": {b"id": b"q" * 20, **arguments}, b"q": query, b"ro": 1, b"t": b"test", b"y": b"q"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("127.83.0.250", 0))
        asking.settimeout(1)
        asking.sendto(lt.bencode(message), address)
        try:
            answer: dict[bytes, Any] = lt.bdecode(asking.recv(4096))
        except TimeoutError:
            return None
    return answer


@pytest.fixture(scope="module")
def swarm() -> Iterator[list[Address]]:
    """libtorrent nodes that know each other, each on an address of its own."""
    addresses = [(f"127.83.0.{number}", 6881) for number in range(1, NODES + 1)]
    sessions = [start_node(host) for host, _ in addresses]
    for each in sessions:
        for address in addresses:
            each.add_dht_node(address)
    for address in addresses:
        assert any(ask(address, b"ping", {}) is not None for _ in range(20)), f"{address} does not answer"
    yield addresses
    for each in sessions:
        each.pause()
    del sessions


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def dht(swarm: list[Address]) -> AsyncIterator[UdpDht]:
    """One node of ours for all tests: libtorrent's nodes would ask one that is gone for seconds to come."""
    async with UdpDht(("127.83.0.200", 0), bootstrap=swarm) as joined:
        async with asyncio.timeout(20):
            await joined.joined()
            while len(joined.nodes()) < NODES:
                await asyncio.gather(*(joined.ping(address) for address in swarm))
        yield joined


def items_on(swarm: list[Address], public: bytes, salt: bytes) -> list[dict[bytes, Any]]:
    target = hashlib.sha1(public + salt).digest()
    answers = [ask(address, b"get", {b"target": target}) for address in swarm]
    return [answer[b"r"] for answer in answers if answer is not None and b"v" in answer[b"r"]]


async def test_our_record_on_libtorrent_nodes_opens_by_the_rust_formulas(dht: UdpDht, swarm: list[Address]) -> None:
    info = release("1.2.3")
    tracker = Tracker(dht, RUST, node(1), now=MinuteClock())
    published = await tracker.publish(info, HINTS)
    assert published.stored >= NODES // 2

    slot_seed, salt, encryption_seed, topic_hash = slot_of(RUST.topic, MINUTE, b"")
    items = await asyncio.to_thread(items_on, swarm, public_of(slot_seed), salt)
    assert len(items) >= NODES // 2
    for item in items:
        assert item[b"k"] == public_of(slot_seed)
        signed = b"4:salt" + lt.bencode(salt) + b"3:seqi%de1:v" % item[b"seq"] + lt.bencode(item[b"v"])
        Ed25519PublicKey.from_public_bytes(item[b"k"]).verify(item[b"sig"], signed)
        assert item[b"seq"] == 0
        opened = open_record(encryption_seed, item[b"v"])
        assert (opened.topic_hash, opened.minute, opened.node_id) == (topic_hash, MINUTE, public_of(node(1).seed))
        version, size, digest, signature, hints = read_patch_info(opened.content)
        assert (version, size, digest, signature) == ((1, 2, 3), info.size, info.hash, info.signature)
        signed = hashlib.sha512(b"1.2.3" + digest + size.to_bytes(8, "little")).digest()
        Ed25519PublicKey.from_public_bytes(OWNER.public).verify(signature, signed)
        assert hints == bytes.fromhex("0c c0000207 1ae1 0a000007 0fa0 12 20010db8000000000000000000000007 1ae1")


@pytest.mark.parametrize("namespace", [OURS, RUST], ids=["ours", "rustpatcher"])
async def test_trackers_hear_each_other_through_libtorrent_nodes(dht: UdpDht, namespace: Namespace) -> None:
    clock = MinuteClock(MINUTE + 10)
    info = release("1.2.3")
    published = await Tracker(dht, namespace, node(1), now=clock).publish(info, HINTS)
    assert published.stored > 0
    clock.minute += 1
    (heard,) = await Tracker(dht, namespace, node(2), now=clock).look()
    assert (heard.info, heard.node_id, set(heard.addresses)) == (info, node(1).public, set(HINTS))


async def test_a_newer_release_wins_the_slot_from_a_fleet_of_old_devices(dht: UdpDht) -> None:
    clock = MinuteClock(MINUTE + 20)
    for number in range(1, 5):
        await Tracker(dht, OURS, node(number), now=clock).publish(release("1.0.0"), [])
    holder = Tracker(dht, OURS, node(9), now=clock)
    assert (await holder.publish(release("1.1.0"), HINTS)).stored > 0
    old = Tracker(dht, OURS, node(1), now=clock)
    assert str((await old.look())[0].info.version) == "1.1.0"
    assert (await old.publish(release("1.0.0"), [])).newer


async def test_in_rustpatcher_the_next_writer_uses_the_next_seq(dht: UdpDht, swarm: list[Address]) -> None:
    clock = MinuteClock(MINUTE + 30)
    for number in range(1, 4):
        assert (await Tracker(dht, RUST, node(number), now=clock).publish(release("1.0.0"), [])).stored > 0
    slot_seed, salt, _, _ = slot_of(RUST.topic, clock.minute, b"")
    items = await asyncio.to_thread(items_on, swarm, public_of(slot_seed), salt)
    assert max(item[b"seq"] for item in items) == 2


@pytest.mark.parametrize("network", ["libtorrent", "ours"])
async def test_forged_and_junk_records_move_nobody_and_an_honest_one_does(
    network: str, request: pytest.FixtureRequest
) -> None:
    if network == "libtorrent":
        bootstrap = tuple(request.getfixturevalue("swarm"))
        await check_hostile_slot(bootstrap, "127.83.0.201")
    else:
        async with Testnet(8, host="127.83.1.1") as net:
            await check_hostile_slot(net.bootstrap, "127.83.1.1")


async def check_hostile_slot(bootstrap: tuple[Address, ...], host: str) -> None:
    attacker = KeyPair.from_seed(b"attacker" * 4)
    clock = MinuteClock(MINUTE + 40)
    slot = Slot(OURS, clock.minute)
    async with UdpDht((host, 0), bootstrap=bootstrap) as dht, asyncio.timeout(30):
        await dht.joined()
        forged = encrypt_record(slot, Record.make(slot, attacker, encode_content(release("999.0.0", attacker), HINTS)))
        for value, seq in ((b"junk", 3), (forged, 4)):
            assert await dht.put_mutable(MutableItem.sign(slot.key_pair, slot.salt, seq, value)) > 0
        assert await Tracker(dht, OURS, node(2), now=clock).look() == []
        published = await Tracker(dht, OURS, node(1), now=clock).publish(release("1.2.3"), HINTS)
        assert published.stored > 0
        (heard,) = await Tracker(dht, OURS, node(2), now=clock).look()
        assert (str(heard.info.version), heard.node_id) == ("1.2.3", node(1).public)


async def test_a_device_of_both_families_is_heard_in_either() -> None:
    clock, info = MinuteClock(), release("1.2.3")
    async with Testnet(6, host="127.83.1.2") as four, Testnet(6, host="::1") as six, asyncio.timeout(30):
        bootstrap = (*four.bootstrap, *six.bootstrap)
        async with UdpDht((("127.83.1.2", 0), ("::1", 0)), bootstrap=bootstrap) as both:
            await asyncio.gather(*(each.joined() for each in both.by_family.values()))
            assert (await Tracker(both, OURS, node(1), now=clock).publish(info, HINTS)).stored > 6
        for host in ("127.83.1.2", "::1"):
            async with UdpDht((host, 0), bootstrap=bootstrap) as one:
                await one.joined()
                (heard,) = await Tracker(one, OURS, node(2), now=clock).look()
                assert (heard.info, heard.node_id) == (info, node(1).public)
