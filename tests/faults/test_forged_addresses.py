"""A connected peer sends packets from addresses that are not its own: nothing is counted by them, and nobody else pays.

RFC 9000 sections 8.2 and 9.3: whose address it is shows only when the peer answers what was sent there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import (
    QuicPreferredAddress,
    pull_quic_transport_parameters,
    push_quic_transport_parameters,
)

from pypatcher.addresses import Address
from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.upload import Upload
from pypatcher.established import apart
from pypatcher.transfer import wire
from pypatcher.transport import Endpoint
from tests.support.quic import CLIENT, SERVER, Pair
from tests.support.siege import MINUTE, until
from tests.support.transport import ALPN, OWNER_KEY, local_release, loopback, make_release, open_endpoint, open_server

FORGED: Address = ("192.168.1.9", 4003)
VICTIM: Address = ("203.0.113.66", 53)
ELSEWHERE: Address = ("198.51.100.7", 4004)
PING = b"\x01\x00\x00\x00"


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.talk()
    return pair


def test_a_packet_from_a_forged_address_moves_nobody(pair: Pair) -> None:
    pair.hostile_client(PING, FORGED)
    assert pair.server.get_peer_address() == FORGED
    assert pair.server.proved_address == CLIENT
    assert pair.client.proved_address == SERVER


def test_many_forged_addresses_do_not_push_out_the_proved_one(pair: Pair) -> None:
    for number in range(40):
        pair.hostile_client(PING, (f"192.168.1.{number}", 4003))
    assert pair.server.proved_address == CLIENT


def test_a_peer_that_moved_is_where_it_answers(pair: Pair) -> None:
    pair.client.streams.ping()
    pair.talk(ELSEWHERE)
    assert pair.server.proved_address == ELSEWHERE


def test_a_server_that_names_a_third_address_has_nothing_sent_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    honest = pair.server._serialize_transport_parameters

    def lying() -> bytes:
        parameters = pull_quic_transport_parameters(Buffer(data=honest()))
        parameters.preferred_address = QuicPreferredAddress(VICTIM, None, bytes(range(8)), bytes(16))
        buffer = Buffer(capacity=1024)
        push_quic_transport_parameters(buffer, parameters)
        return buffer.data

    monkeypatch.setattr(pair.server, "_serialize_transport_parameters", lying)
    sent_to = set()
    send = pair.client.datagrams_to_send

    def watched(now: float) -> list[tuple[bytes, Address]]:
        datagrams = send(now)
        sent_to.update(address for _, address in datagrams)
        return datagrams

    monkeypatch.setattr(pair.client, "datagrams_to_send", watched)
    pair.talk(rounds=20)
    assert pair.client._handshake_confirmed
    assert sent_to == {SERVER}


def test_the_end_of_a_handshake_from_a_forged_address_proves_nothing() -> None:
    pair = Pair()
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, CLIENT, pair.now)
    for data, _ in pair.server.datagrams_to_send(pair.now):
        pair.client.receive_datagram(data, SERVER, pair.now)
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, FORGED, pair.now)
    assert pair.server.proved_address is None
    pair.talk(rounds=200)
    assert pair.server.proved_address == CLIENT


class Recorder(UploadLimiter):
    """Remembers whose uploads were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Address] = []

    def admit(self, address: Address, size: int, drop: Callable[[], None] = lambda: None) -> Upload | None:
        self.asked.append(address)
        return super().admit(address, size, drop)


@contextlib.contextmanager
def forging(client: Endpoint) -> Iterator[None]:
    """What the client sends comes from another address."""
    (udp,) = client._sockets.values()
    own = udp.send, udp.send_all
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind((loopback(), 0))
        udp.send = lambda data, address, source=b"": liar.sendto(data, address)
        udp.send_all = lambda trains, source=b"": [liar.sendto(*each) for each in apart(trains)]
        try:
            yield
        finally:
            udp.send, udp.send_all = own


async def test_an_upload_asked_for_from_a_forged_address_is_the_askers_own(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, 5000)
    limiter = Recorder()
    async with (
        open_server(local_release(info, tmp_path / "release"), limiter=limiter) as server,
        open_endpoint() as client,
    ):
        connection = await client.connect(server.address, node_id=None, alpn=ALPN)
        await asyncio.sleep(0.2)
        with forging(client):
            stream = await connection.open_stream()
            await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
            await until(lambda: bool(limiter.asked))
        assert limiter.asked == [client.addresses[0]]
