"""Two QUIC connections that speak in memory, one of which may send packets that no honest peer would."""

from __future__ import annotations

from pypatcher.addresses import Address
from pypatcher.keys import KeyPair
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity
from tests.support.transport import ALPN

CLIENT: Address = ("198.51.100.1", 4001)
SERVER: Address = ("203.0.113.1", 4002)


def forge(sender: RawKeyConnection, payload: bytes, number: int) -> bytes:
    """A packet of 1-RTT with ``payload`` under the sender's keys, which it did not send itself."""
    state = sender.streams.state
    prefix = bytes((0x43 | state.sealer.phase << 2,)) + state.their_ids.current.value
    header, sealed = state.sealer.seal(prefix, number, payload)
    ((packet, _),) = state.sealer.finish([header], [sealed])
    return packet


class Pair:
    """A client and a server; the clock goes by steps of 10 ms."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = RawKeyConnection(QuicIdentity.from_pair(KeyPair.generate()), [ALPN])
        self.client.connect(SERVER, self.now)
        self.server = RawKeyConnection(
            QuicIdentity.from_pair(KeyPair.generate()),
            [ALPN],
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self._number = 1000

    def talk(self, client: Address = CLIENT, rounds: int = 6) -> None:
        """Carry everybody's datagrams to the other side; those of the client come from ``client``."""
        for _ in range(rounds):
            self.now += 0.01
            for side in (self.client, self.server):
                timer = side.get_timer()
                if timer is not None and timer <= self.now:
                    side.handle_timer(self.now)
            for data, _ in self.client.datagrams_to_send(self.now):
                self.server.receive_datagram(data, client, self.now)
            for data, address in self.server.datagrams_to_send(self.now):
                if address == client:
                    self.client.receive_datagram(data, SERVER, self.now)

    def forge(self, sender: RawKeyConnection, payload: bytes) -> bytes:
        """A packet of 1-RTT with ``payload`` under the sender's keys."""
        self._number += 1
        return forge(sender, payload, self._number)

    def hostile_client(self, payload: bytes, source: Address = CLIENT) -> tuple[int, bool, str] | None:
        """The server gets such a packet; how it ended the connection, if it did."""
        self.server.receive_datagram(self.forge(self.client, payload), source, self.now)
        return self.server.closing

    def hostile_server(self, payload: bytes) -> tuple[int, bool, str] | None:
        """The client gets such a packet; how it ended the connection, if it did."""
        self.client.receive_datagram(self.forge(self.server, payload), SERVER, self.now)
        return self.client.closing
