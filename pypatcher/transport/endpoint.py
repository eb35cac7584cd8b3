"""The node's sockets, shared by the DHT and QUIC, and every QUIC connection behind them.

design.md "Transport and transfer": one socket per address family, both on one port; packets are told apart by their
first byte and by our connection ids. A batch of datagrams is fed to its connections first, then each transmits once.
An endpoint without connections has no timer and uses no processor time. Not here: what QUIC does (``quic``), and what
connections carry.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from pypatcher.addresses import Address, format_address, is_ipv6
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.established import Train, short_run
from pypatcher.keys import KeyPair
from pypatcher.tasks import interpreter_ends
from pypatcher.transport.admission import Admission, ConnectionPlace
from pypatcher.transport.close import CloseCode
from pypatcher.transport.connection import Connection
from pypatcher.transport.incoming import FrontDoor, Welcome
from pypatcher.transport.open_connection import OpenConnection
from pypatcher.transport.quic import CONNECTION_ID_SIZE, MIN_DATAGRAM_SIZE, RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity
from pypatcher.transport.sockets import open_sockets
from pypatcher.transport.source_address import goes_on, payload_for, source_for
from pypatcher.udp import DatagramSocket

__all__ = ["Endpoint", "Handler"]

Handler = Callable[[Connection], Awaitable[None]]
"""Serves one connection; the connection is closed when it returns."""

_ASK_SECONDS = 15.0
_CONNECTIONS_LIMIT = 256
_DATAGRAM_SIZE_V4, _DATAGRAM_SIZE_V6 = 1452, 1432
_PACKETS_PER_TURN, _FLUSH_SECONDS = 512, 0.5
"""After so many others have a turn first, 2 ms of plain Python; it begins within these seconds, or its call is lost."""

_log = logging.getLogger("pypatcher.transport")


class Endpoint:
    """One node on the network: made by ``await Endpoint.open(...)``, ended by ``await endpoint.close()``."""

    def __init__(
        self,
        identity: KeyPair,
        on_krpc: Callable[[bytes, Address], None],
        admission: Admission,
        max_datagram_size: int | None,
    ) -> None:
        """Use ``open``."""
        self.node_id = identity.public
        self._identity = QuicIdentity.from_pair(identity)
        self._on_krpc = on_krpc
        self._admission = admission
        self._max_datagram_size = max_datagram_size
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[bool, DatagramSocket] = {}
        self._routes: dict[bytes, Connection] = {}
        # What clients call us first is theirs to choose, and counts in packets with a long header alone: a stranger who
        # chose "1:rd2:id" would else be given every answer of the DHT.
        self._first_routes: dict[bytes, Connection] = {}
        self._connections: dict[Connection, OpenConnection] = {}
        self._holders: dict[ConnectionPlace, Connection] = {}
        self._reset_tokens: dict[bytes, Connection] = {}
        self._awake: dict[Connection, None] = {}
        self._flush_soon: asyncio.Handle | None = None
        self._flush_late = 0.0
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._front_door = FrontDoor(admission)
        self._closed = False

    @classmethod
    async def open(
        cls,
        identity: KeyPair,
        bind: Sequence[Address],
        *,
        on_krpc: Callable[[bytes, Address], None] = lambda _data, _source: None,
        preferred_port: int = 0,
        admission: Admission | None = None,
        max_datagram_size: int | None = None,
    ) -> Endpoint:
        """Bind at most one socket per family.

        Args:
            bind: addresses; where several have port 0 they get the same port.
            on_krpc: told of every datagram that may be KRPC; it must not raise.
            preferred_port: tried first where ``bind`` says port 0, such as the port of the last start.
            admission: limits on connections that others open.
            max_datagram_size: bytes of a UDP payload that are tried on a path, at least 1200. A path that loses them
                stays at 1200. Default: 1452 over IPv4, 1432 over IPv6.

        Raises:
            SettingError: an address cannot be bound.
        """
        endpoint = cls(identity, on_krpc, admission or Admission(), max_datagram_size)
        endpoint._sockets = open_sockets(bind, preferred_port, endpoint._open_socket)
        return endpoint

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound, with their real ports."""
        return tuple(udp.address for udp in self._sockets.values())

    @property
    def connections(self) -> int:
        """How many connections there are, unfinished and ending ones included."""
        return len(self._connections)

    def send_krpc(self, data: bytes, address: Address) -> None:
        """Send one datagram from the socket of the address's family; without one it is lost.

        It is an answer, and leaves from the address that was asked, if it is sent while ``on_krpc`` runs.
        """
        if (udp := self._sockets.get(is_ipv6(address[0]))) is not None:
            udp.send(data, address, source=udp.asked_by(address))

    def serve(self, alpn: str, handler: Handler) -> None:
        """Accept connections that ask for ``alpn``; ``handler`` runs in a task of the endpoint's for each."""
        self._handlers[alpn] = handler

    def stop_serving(self, alpn: str) -> None:
        """Accept no new connections for ``alpn``."""
        self._handlers.pop(alpn, None)

    async def connect(self, address: Address, *, node_id: bytes | None, alpn: str, timeout: float = 10) -> Connection:  # noqa: ASYNC109
        """Dial a peer and finish the handshake.

        Args:
            address: a literal IP address and port.
            node_id: the key that the peer must prove; None takes any.
            alpn: the protocol to speak.
            timeout: seconds for the whole handshake.

        Raises:
            PeerBusyError: it has no place for us now.
            PeerError: nobody answers there, another node does, or it does not speak ``alpn``.
        """
        udp = self._sockets.get(is_ipv6(address[0]))
        if self._closed or udp is None:
            raise PeerError(f"{format_address(address)} cannot be reached from here: no socket of its family")
        quic = RawKeyConnection(self._identity, [alpn], peer_id=node_id, max_datagram_size=self._datagram_size(address))
        connection = Connection(quic, self, address, dialed=True)
        self._connections[connection] = OpenConnection(udp, address)
        self.add_route(quic.host_cid, connection)
        quic.connect(address, self._loop.time())
        self.wake(connection)
        try:
            async with asyncio.timeout(timeout):
                await connection.wait_established()
        except TimeoutError:
            error = PeerError(f"{format_address(address)} did not answer within {timeout:g} s")
            connection.close(CloseCode.DONE)
            raise error from None
        except PeerError as error:
            kind = PeerBusyError if isinstance(error, PeerBusyError) else PeerError
            raise kind(f"{format_address(address)}: {error}") from None
        except asyncio.CancelledError:
            connection.close(CloseCode.DONE)
            raise
        return connection

    def address_changed(self) -> None:
        """This machine may have another address: tell the peers that we dialed, give up those that dialed us.

        Only the address of who dialed may change (RFC 9000 section 9); who was dialed is not heard from another one.
        """
        for connection, entry in list(self._connections.items()):
            source = source_for(connection.peer_address)
            keeps = bool(entry.asked) and goes_on(entry.udp.host_of(entry.asked), source)
            if not keeps:
                entry.asked = b""
            if connection.is_established and source != entry.source:
                entry.source = source
                if keeps:
                    continue  # another address of the same network, as IPv6 takes every few hours
                if connection.dialed:
                    connection.nudge()
                else:
                    connection.abandon(PeerError("this machine's address changed"))

    async def close(self) -> None:
        """End every connection and handler, say so to the peers, and close the sockets."""
        if self._closed:
            return
        self._closed = True
        self._handlers.clear()
        for connection in list(self._connections):
            connection.close(CloseCode.STOPPING)
        self._flush()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.abandon(PeerError("this node stopped"))
        if self._flush_soon is not None:
            self._flush_soon.cancel()
        for udp in self._sockets.values():
            udp.close()

    # What connections ask (ConnectionHost).

    def wake(self, connection: Connection) -> None:
        """The connection has something to send or to act on; it is pumped once, soon."""
        self._awake[connection] = None
        self._have_flushed()

    def add_route(self, connection_id: bytes, connection: Connection) -> None:
        """Packets with this connection id are for ``connection``."""
        self._routes.setdefault(connection_id, connection)

    def remove_route(self, connection_id: bytes, connection: Connection) -> None:
        """They no longer are."""
        if self._routes.get(connection_id) is connection:
            del self._routes[connection_id]

    def send_again(self, connection: Connection, trains: list[Train]) -> None:
        """Repeat what a closed connection sent last."""
        entry = self._connections[connection]
        entry.udp.send_all(trains, source=entry.asked)

    def established(self, connection: Connection) -> None:
        """A handshake is complete: whoever serves its protocol takes over."""
        entry = self._connections[connection]
        entry.source = source_for(connection.peer_address)
        for token in connection.reset_tokens:
            self._reset_tokens[token] = connection
        if entry.place is not None:
            self._admission.finished(entry.place)
            handler = self._handlers.get(connection.alpn)
            if handler is None:
                connection.close(CloseCode.UNAVAILABLE)
                return
            task = self._loop.create_task(self._run(handler, connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def closed(self, connection: Connection) -> None:
        """The connection carries nothing any more: its place is free, though late packets still find it."""
        entry = self._connections.get(connection)
        if entry is None:
            return
        entry.end_deadline()
        if entry.place is not None:
            self._admission.ended(entry.place)
            self._holders.pop(entry.place, None)
            entry.place = None

    def kept(self, connection: Connection) -> None:
        """Its peer asked rightly: it stays until whoever serves it is done."""
        entry = self._connections.get(connection)
        if entry is not None and entry.place is not None:
            entry.place.is_kept = True
            entry.end_deadline()

    def ended(self, connection: Connection) -> None:
        """The connection is over and is forgotten."""
        if self._connections.pop(connection, None) is None:
            return
        self._awake.pop(connection, None)
        for table in (self._routes, self._first_routes, self._reset_tokens):
            for key in [key for key, value in table.items() if value is connection]:
                del table[key]

    def _open_socket(self, address: Address) -> DatagramSocket:
        return DatagramSocket(address, self._datagram_received, self._go_on, self._go_on, self._train_received)

    def _datagram_size(self, address: Address) -> int:
        largest = self._max_datagram_size or (_DATAGRAM_SIZE_V6 if is_ipv6(address[0]) else _DATAGRAM_SIZE_V4)
        return max(MIN_DATAGRAM_SIZE, min(largest, payload_for(address) or largest))

    def _train_received(self, data: bytes, size: int, source: Address) -> None:
        start = 0
        while start < len(data):
            end = short_run(data, start, size, CONNECTION_ID_SIZE)
            start, run = end, data[start:end]  # which is data itself, mostly
            if run[0] < 0x80 and (connection := self._routes.get(run[1 : 1 + CONNECTION_ID_SIZE])) is not None:
                self._feed(connection, (run, size, source))
            else:
                for at in range(0, len(run), size):
                    self._datagram_received(run[at : at + size], source)

    def _datagram_received(self, data: bytes, source: Address) -> None:
        first = data[0] if data else 0
        if first >= 0xC0 or (first >= 0x80 and data[1:5] == bytes(4)):  # see ``_feed``
            called = data[6 : 6 + data[5]] if len(data) > 6 else b""
            connection = self._routes.get(called) or self._first_routes.get(called)
            if connection is None:
                self._first_packet(data, source)
        elif first >= 0x40:
            connection = self._routes.get(data[1 : 1 + CONNECTION_ID_SIZE])
            if connection is None and first == ord("d"):
                self._on_krpc(data, source)
                return
            if connection is None and (known := self._reset_tokens.get(data[-16:])) is not None:
                known.stateless_reset()
        else:
            return
        if connection is not None:
            self._feed(connection, (data, len(data), source))

    def _feed(self, connection: Connection, train: Train) -> None:
        data, _, source = train
        if data[0] >= 0x80 and data[1:5] == bytes(4):
            # Version negotiation, whose second bit is any (RFC 9000, 17.2.1), counts before all else of the peer (6.2).
            if connection.dialed and not connection.was_heard:
                connection.abandon(PeerError("it speaks no version of QUIC that this node does"))
            return
        entry, now = self._connections.get(connection), self._loop.time()
        # Packets that asked another address of ours than the last ones are opened by themselves: see ``_note_asked``.
        elsewhere = entry is not None and entry.udp.asked_by(source) != entry.asked
        try:
            if elsewhere:
                connection.open_batch(now)
            newest = connection.newest if elsewhere else ()
            connection.feed(train, now)
            if elsewhere:
                connection.open_batch(now)
        except Exception:
            # Whatever a hostile packet breaks in the QUIC library, it breaks for its own connection alone.
            _log.debug("a packet from %s broke its connection", format_address(source), exc_info=True)
            connection.abandon(PeerError("the connection broke on a packet of the peer"))
            return
        if elsewhere and connection.newest != newest:
            self._note_asked(connection, source)
        self._awake[connection] = None

    def _note_asked(self, connection: Connection, source: Address) -> None:
        """A packet that was the peer's own, and new, asked the address of ours that we answer from."""
        entry = self._connections.get(connection)
        if entry is not None and not (connection.dialed and not connection.is_established):
            entry.asked = entry.udp.asked_by(source)

    def _first_packet(self, data: bytes, source: Address) -> None:
        if len(data) < MIN_DATAGRAM_SIZE or not self._handlers:
            return
        if self._front_door.is_flooded(source, self._loop.time()):
            return
        full = len(self._connections) >= _CONNECTIONS_LIMIT and not self._forget_an_ended_one()
        match self._front_door.answer(data, source, self._loop.time(), full):
            case bytes(reply):
                udp = self._sockets[is_ipv6(source[0])]
                udp.send(reply, source, source=udp.asked_by(source))
            case Welcome() as welcome:
                self._accept(welcome, data, source)

    def _forget_an_ended_one(self) -> bool:
        """Make room; who chooses its round-trip time chooses how long an end is repeated."""
        ended = next((connection for connection in self._connections if connection.is_closed), None)
        if ended is not None:
            ended.abandon(PeerError("others need the place"))
        return ended is not None

    def _accept(self, welcome: Welcome, data: bytes, source: Address) -> None:
        quic = RawKeyConnection(
            self._identity,
            list(self._handlers),
            max_datagram_size=self._datagram_size(source),
            original_destination_connection_id=welcome.original_id,
            retry_source_connection_id=welcome.retry_id,
        )
        connection = Connection(quic, self, source, dialed=False)
        with contextlib.suppress(Exception):
            connection.feed((data, len(data), source), self._loop.time())
        if not quic.started:
            # Noise in the shape of a first packet leaves nothing behind.
            return
        entry = self._connections[connection] = OpenConnection(self._sockets[is_ipv6(source[0])], source)
        self._note_asked(connection, source)
        entry.deadline = self._loop.call_later(_ASK_SECONDS, self._send_away, connection)
        entry.place, vacated = self._admission.opened(
            source, validated=welcome.retry_id is not None, now=self._loop.time()
        )
        self._holders[entry.place] = connection
        if vacated is not None:
            self._vacate(self._holders[vacated])
        self._first_routes.setdefault(welcome.destination_id, connection)
        self.add_route(quic.host_cid, connection)
        self._awake[connection] = None

    def _send_away(self, connection: Connection) -> None:
        """It has not asked rightly in time."""
        if connection.is_established:
            connection.close(CloseCode.STALLED)
        else:
            connection.abandon(PeerError("the handshake was not finished in time"))

    def _vacate(self, connection: Connection) -> None:
        """Others want its place, and it has not asked rightly yet."""
        if connection.is_established:
            connection.close(CloseCode.BUSY)
        else:
            connection.refuse()

    def _go_on(self) -> None:
        """A batch came, or a socket takes more."""
        if self._loop.time() >= self._flush_late:
            self._flush()

    def _have_flushed(self) -> None:
        if (now := self._loop.time()) >= self._flush_late:
            # A call that failed instead, as any may once, must not end all sending.
            self._flush_soon, self._flush_late = self._loop.call_soon(self._flush), now + _FLUSH_SECONDS

    def _flush(self) -> None:
        """Pump connections that have something to do; where a socket is full, or much was sent, they wait."""
        if self._flush_soon is not None:
            self._flush_soon.cancel()
        self._flush_soon, self._flush_late = None, 0.0
        awake, self._awake = self._awake, {}
        now, sent = self._loop.time(), 0
        for connection in awake:
            entry = self._connections.get(connection)
            if entry is None:
                continue
            if entry.udp.blocked or sent >= _PACKETS_PER_TURN:
                self._awake[connection] = None
                continue
            try:
                trains = connection.pump(now)
            except Exception:
                _log.debug("a connection to %s broke", format_address(entry.address), exc_info=True)
                connection.abandon(PeerError("the connection broke on a packet of the peer"))
                continue
            entry.udp.send_all(trains, source=entry.asked)
            sent += sum(-(-len(data) // size) for data, size, _ in trains)
        if self._awake and sent >= _PACKETS_PER_TURN:
            self._have_flushed()

    async def _run(self, handler: Handler, connection: Connection) -> None:
        code = CloseCode.DONE
        try:
            await handler(connection)
        except PeerError as error:
            _log.debug("%s: %s", format_address(connection.peer_address), error)
            code = CloseCode.PROTOCOL
        except Exception as error:
            if not interpreter_ends(error):
                _log.exception("serving %s failed", format_address(connection.peer_address))
            code = CloseCode.UNAVAILABLE
        finally:
            connection.close(code)
