"""What the path and DHT nodes can read in the packets of an update, every one: docs/network.md, "Privacy"."""

from __future__ import annotations

from pathlib import Path

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from pypatcher.addresses import Address, parse_address
from pypatcher.dht import krpc
from pypatcher.dht.knock import FIELD
from pypatcher.dht.krpc import Query
from pypatcher.discovery.namespace import Namespace, namespace_hash
from pypatcher.discovery.sources.lan import encode_search
from pypatcher.established import Train, apart
from pypatcher.events import NodeStarted
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.udp import DatagramSocket
from tests.support.devices import here, open_fleet
from tests.support.transport import open_endpoint


@pytest.fixture
def packets(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every datagram that a node or DHT node of this process hands to its socket."""
    seen: list[bytes] = []
    send, send_all = DatagramSocket.send, DatagramSocket.send_all

    def note(self: DatagramSocket, data: bytes, address: Address, *, source: bytes = b"") -> None:
        seen.append(bytes(data))
        send(self, data, address, source=source)

    def note_all(self: DatagramSocket, trains: list[Train], *, source: bytes = b"") -> None:
        seen.extend(data for data, _ in apart(trains))
        send_all(self, trains, source=source)

    monkeypatch.setattr(DatagramSocket, "send", note)
    monkeypatch.setattr(DatagramSocket, "send_all", note_all)
    return seen


async def test_packets_show_what_the_page_on_privacy_says(tmp_path: Path, packets: list[bytes]) -> None:
    async with open_fleet(tmp_path) as fleet:
        old, _ = fleet.release("1.0.0")
        device = fleet.device(old)
        await device.wait_for("node.started")
        new, _ = fleet.release("2.0.0")
        fleet.device(new)
        await device.wait_for("release.staged")
        started = next(event for event in device.events if isinstance(event, NodeStarted))
        ours = list(packets)
        async with open_endpoint() as older:  # as nodes from before v1 ask
            connection = await older.connect(
                parse_address(started.addresses[0]), node_id=None, alpn=fleet.namespace.alpn
            )
            connection.close()
        secrets = {
            "the owner's key": bytes(fleet.owner),
            "the same as text": encode_key(fleet.owner).encode(),
            "the target": here().name.encode(),
            "the namespace's secret": fleet.namespace.topic_hash,
        }
    dht = [packet for packet in ours if packet.startswith(b"d1:")]
    quic = [packet for packet in ours if packet and packet[0] >= 0x40 and not packet.startswith(b"d1:")]
    hellos = [hello for packet in quic if (hello := client_hello(packet)) is not None]
    older_hellos = [hello for packet in packets[len(ours) :] if packet and (hello := client_hello(packet)) is not None]
    assert len(dht) > 100
    assert len(quic) > 5
    for name, secret in secrets.items():
        assert not any(secret in packet for packet in dht), f"{name} is in a DHT packet"
        assert not any(secret in packet for packet in quic), f"{name} is in a QUIC packet in the clear"
    assert any(FIELD in query.arguments for query in queries(dht)), "no knock was seen"
    # Under keys that anybody can compute, the first packets of QUIC tell the path what is spoken: the page says so.
    assert any((fleet.namespace.alpn_v1 or "").encode() in hello for hello in hellos)
    for name, secret in secrets.items():
        assert not any(secret in hello for hello in hellos), f"{name} is in the first packets of v1"
    assert any(secrets["the same as text"] in hello and secrets["the target"] in hello for hello in older_hellos)


@pytest.mark.parametrize("family", [4, 6])
def test_neighbours_are_told_a_hash_and_nothing_else(family: int) -> None:
    owner = OwnerKey(KeyPair.from_seed(bytes(32)).public)
    namespace = Namespace.ours(here().name, owner)
    packet = encode_search(namespace_hash(namespace), 6881, "a cookie", family)
    for secret in (bytes(owner), encode_key(owner).encode(), here().name.encode(), namespace.topic_hash):
        assert secret not in packet
        assert secret.hex().encode() not in packet


def queries(packets: list[bytes]) -> list[Query]:
    messages = (krpc.decode(packet) for packet in packets)
    return [message for message in messages if isinstance(message, Query)]


def client_hello(packet: bytes) -> bytes | None:
    """What the first packet of a connection says, read as whoever is on the path would; None for any other packet."""
    if packet[0] < 0xC0:
        return None
    buffer = Buffer(data=packet)
    header = pull_quic_header(buffer, host_cid_length=8)
    if header.packet_type != QuicPacketType.INITIAL:
        return None
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=1)
    try:
        _, plain, _ = crypto.decrypt_packet(packet[: header.packet_length], buffer.tell(), 0)
    except CryptoError:
        return None  # the other side's, or a later one
    return bytes(plain)
