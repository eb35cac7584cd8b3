"""What the handshake leaves to our own 1-RTT: keys that nobody has twice, and peers that are all aioquic."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import ssl

import pytest
from aioquic import tls
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoError, KeyUnavailableError

from pypatcher.established import StreamData
from pypatcher.keys import KeyPair
from pypatcher.transport.ciphers import cipher_order
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity, RawKeyContext
from tests.support.quic import CLIENT, SERVER, Pair
from tests.support.transport import ALPN

SIZE = 400_000


class Aioquic(QuicConnection):
    """aioquic with raw public keys, and all the rest its own."""

    def __init__(self, called: bytes | None = None) -> None:
        identity = QuicIdentity.from_pair(KeyPair.generate())
        configuration = QuicConfiguration(
            is_client=called is None,
            alpn_protocols=[ALPN],
            certificate=identity.certificate,
            private_key=identity.private_key,
            cipher_suites=list(cipher_order()),
            verify_mode=ssl.CERT_NONE,
            max_datagram_size=1300,
        )
        super().__init__(configuration=configuration, original_destination_connection_id=called)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls = RawKeyContext(self.tls, self._configuration, None)


def ours(called: bytes | None = None) -> RawKeyConnection:
    identity = QuicIdentity.from_pair(KeyPair.generate())
    return RawKeyConnection(identity, [ALPN], original_destination_connection_id=called, max_datagram_size=1452)


class Net:
    """Carries datagrams between a client and a server on virtual time; some are lost, doubled, late."""

    def __init__(self, client: QuicConnection, server: QuicConnection, seed: int, loss: float) -> None:
        self.now, self.loss, self.random = 1.0, loss, random.Random(seed)
        self.sides = {client: (server, CLIENT), server: (client, SERVER)}
        self.got = {client: bytearray(), server: bytearray()}
        self.ended = {client: False, server: False}
        self._flying: list[tuple[float, int, QuicConnection, bytes, tuple[str, int]]] = []
        self._order = itertools.count()

    def step(self) -> None:
        """Go on to what comes next."""
        times = [at for side in self.sides if (at := side.get_timer()) is not None]
        times += [each[0] for each in self._flying[:1]]
        # aioquic rounds the time of a loss down, and finds none yet when it is due.
        self.now = max(self.now + 1e-6, min(times, default=self.now + 1))
        while self._flying and self._flying[0][0] <= self.now:
            _, _, side, data, source = heapq.heappop(self._flying)
            side.receive_datagram(data, source, self.now)
        for side in self.sides:
            if (at := side.get_timer()) is not None and at <= self.now:
                side.handle_timer(self.now)
            self._flush(side)

    def _flush(self, side: QuicConnection) -> None:
        other, source = self.sides[side]
        if not side._network_paths:
            return  # a server that nobody has dialed
        for data, _ in side.datagrams_to_send(self.now):
            for _ in range(1 + (self.random.random() < self.loss)):
                if self.random.random() >= self.loss:
                    late = self.now + 0.01 + self.random.random() * self.loss / 5
                    heapq.heappush(self._flying, (late, next(self._order), other, bytes(data), source))
        while (event := side.next_event()) is not None:
            match event:
                case StreamData(data=data, end=end) | events.StreamDataReceived(data=data, end_stream=end):
                    self.got[side] += data
                    self.ended[side] = end
                    if isinstance(side, RawKeyConnection):
                        side.streams.grant(event.stream_id, len(self.got[side]) + 100_000)

    def run(self, side: QuicConnection) -> None:
        """Until that side got the end of a stream."""
        for _ in range(20_000):
            if self.ended[side]:
                return
            self.step()
        raise AssertionError("it did not arrive")


def write(side: QuicConnection, stream: int, data: bytes) -> None:
    if isinstance(side, RawKeyConnection):
        side.streams.write(stream, data, True)
    else:
        side.send_stream_data(stream, data, end_stream=True)


@pytest.mark.parametrize(("seed", "loss"), [(1, 0.0), (2, 0.05), (3, 0.15)])
@pytest.mark.parametrize("dialed", ["by us", "by aioquic"])
def test_aioquic_is_spoken_with_under_loss_and_key_updates(dialed: str, seed: int, loss: float) -> None:
    client = ours() if dialed == "by us" else Aioquic()
    client.connect(SERVER, 1.0)
    called = client.original_destination_connection_id
    server = Aioquic(called) if dialed == "by us" else ours(called)
    net = Net(client, server, seed, loss)
    while not (client._handshake_confirmed and server._handshake_confirmed):
        net.step()
    stream = client.streams.open(False) if isinstance(client, RawKeyConnection) else 0
    question, answer = os.urandom(SIZE), os.urandom(SIZE)
    client.request_key_update()
    write(client, stream, question)
    net.run(server)
    server.request_key_update()
    write(server, stream, answer)
    net.run(client)
    assert bytes(net.got[server]) == question
    assert bytes(net.got[client]) == answer
    mine = client if isinstance(client, RawKeyConnection) else server
    other = server if mine is client else client
    assert isinstance(mine, RawKeyConnection)
    assert mine.closing is None
    assert mine.streams.state.sealer.phase == other._cryptos[tls.Epoch.ONE_RTT].key_phase
    net.loss = 0.0
    other.close(error_code=5, reason_phrase="enough")
    for _ in range(50):
        net.step()
    assert mine.closing == (5, True, "enough")


def test_aioquic_can_neither_seal_nor_open_what_is_ours() -> None:
    pair = Pair()
    pair.talk()
    packet = pair.forge(pair.client, b"\x01\x00\x00\x00")
    for side in (pair.client, pair.server):
        keys = side._cryptos[tls.Epoch.ONE_RTT]
        assert not keys.send.is_valid()
        assert not keys.recv.is_valid()
        assert keys.send.secret is keys.recv.secret is None
        with pytest.raises(KeyUnavailableError):
            keys.decrypt_packet(packet, 9, 0)
        with pytest.raises((AssertionError, CryptoError)):
            keys.encrypt_packet(b"\x40" + bytes(10), b"\x01", 0)
        with pytest.raises(Exception, match="keys for everything"):
            side._update_traffic_key(tls.Direction.ENCRYPT, tls.Epoch.ONE_RTT, cipher_order()[0], bytes(32))
    assert pair.server.closing is pair.client.closing is None


def test_a_server_without_the_end_of_the_handshake_hears_ours() -> None:
    """Its last packet is lost, so 1-RTT cannot be read: the client's end is said under the handshake's keys, too."""
    pair = Pair()
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, CLIENT, pair.now)
    for data, _ in pair.server.datagrams_to_send(pair.now):
        pair.client.receive_datagram(data, SERVER, pair.now)
    pair.client.datagrams_to_send(pair.now)
    assert pair.client.established is not None
    pair.client.close(error_code=3)
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, CLIENT, pair.now)
    assert pair.server.closing is not None


def test_what_overtakes_the_end_of_the_handshake_is_kept_for_it() -> None:
    pair = Pair()
    for data, _ in pair.client.datagrams_to_send(pair.now):
        pair.server.receive_datagram(data, CLIENT, pair.now)
    for data, _ in pair.server.datagrams_to_send(pair.now):
        pair.client.receive_datagram(data, SERVER, pair.now)
    last = pair.client.datagrams_to_send(pair.now)
    pair.client.streams.write(pair.client.streams.open(False), b"early", True)
    early = pair.client.datagrams_to_send(pair.now)
    for data, _ in [*early, *last]:
        pair.server.receive_datagram(data, CLIENT, pair.now)
    got = []
    while (event := pair.server.next_event()) is not None:
        got.append(event)
    assert StreamData(0, b"early", True) in got
