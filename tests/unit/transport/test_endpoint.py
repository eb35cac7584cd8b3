"""Sockets, connections and streams on loopback: design.md "Transport and transfer"."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import Counter
from pathlib import Path

import pytest
from aioquic.quic.packet import encode_quic_version_negotiation

from pypatcher.addresses import Address
from pypatcher.errors import PeerBusyError, PeerError, SettingError
from pypatcher.established import Train
from pypatcher.keys import KeyPair
from pypatcher.transport import Admission, Connection, Endpoint, Stream
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity
from pypatcher.transport.stream import DEFAULT_WINDOW, WRITE_LIMIT
from tests.support.transport import ALPN, loopback, open_endpoint


async def pair(server: Endpoint, client: Endpoint) -> tuple[Connection, Connection, asyncio.Event]:
    """A connection seen from both sides; the server's ends when the event is set."""
    accepted: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handle(connection: Connection) -> None:
        accepted.set_result(connection)
        await over.wait()

    server.serve(ALPN, handle)
    dialed = await client.connect(server.addresses[0], node_id=server.node_id, alpn=ALPN)
    return dialed, await accepted, over


async def test_both_sides_prove_their_keys_and_agree_on_a_protocol() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        dialed, accepted, _ = await pair(server, client)
        assert (dialed.peer_id, accepted.peer_id) == (server.node_id, client.node_id)
        assert dialed.alpn == accepted.alpn == ALPN
        assert (dialed.peer_address, accepted.peer_address) == (server.addresses[0], client.addresses[0])
        assert (dialed.dialed, accepted.dialed) == (True, False)


async def test_either_side_opens_streams_of_both_kinds() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        for opener, acceptor in ((one, other), (other, one)):
            both = await opener.open_stream()
            await both.write(b"question")
            await both.finish()
            answering = await acceptor.accept_stream()
            assert await answering.read_exactly(8) == b"question"
            assert await answering.read(9) == b""
            await answering.write(b"answer")
            await answering.finish()
            assert await both.read(100) == b"answer"
            single = await opener.open_uni()
            await single.write(b"offer")
            await single.finish()
            await single.delivered()
            receiving = await acceptor.accept_uni()
            assert await receiving.read_exactly(5) == b"offer"
            assert await receiving.read(1) == b""


async def test_much_data_passes_both_ways_at_once_in_order() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        data = os.urandom(3_000_000)

        async def read_all(stream: Stream) -> bytes:
            parts = []
            while part := await stream.read(100_000):
                parts.append(part)
            return b"".join(parts)

        async def write_all(stream: Stream, data: bytes) -> None:
            await stream.write(data)
            await stream.finish()

        near = await one.open_stream()
        sending = asyncio.ensure_future(write_all(near, data))
        far = await other.accept_stream()
        answering = asyncio.ensure_future(write_all(far, data[::-1]))
        got = await asyncio.gather(read_all(far), read_all(near))
        await asyncio.gather(sending, answering)
        assert got[0] == data
        assert got[1] == data[::-1]


async def test_a_writer_waits_for_a_reader_and_nothing_piles_up() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        stream = await one.open_stream()
        writing = asyncio.ensure_future(stream.write(bytes(WRITE_LIMIT + DEFAULT_WINDOW + 1)))
        receiving = await other.accept_stream()
        await asyncio.wait([writing], timeout=0.3)
        assert not writing.done()
        assert sum(map(len, receiving._chunks)) <= DEFAULT_WINDOW
        missing = WRITE_LIMIT + DEFAULT_WINDOW + 1
        while missing:
            missing -= len(await receiving.read(50_000))
        await writing


async def test_what_left_is_known_before_it_arrives_and_after_the_end() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, _, _ = await pair(server, client)
        stream = await one.open_stream()
        await stream.write(bytes(1000))
        assert stream.sent == 0
        client._flush()
        assert (stream.sent, stream.unacknowledged) == (1000, 1000)
        await stream.write(bytes(1000))
        one.abandon(PeerError("over"))
        assert stream.sent == 1000


async def test_what_arrived_before_the_end_is_delivered() -> None:
    """The last acknowledgement and the end come before the writer has its turn."""
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        stream = await one.open_uni()
        await stream.write(b"all")
        await stream.finish()
        receiving = await other.accept_uni()
        assert await receiving.read_exactly(3) + await receiving.read(1) == b"all"
        async with asyncio.timeout(5):
            while one._streams:
                await asyncio.sleep(0.01)
        one.abandon(PeerError("over"))
        async with asyncio.timeout(1):
            await stream.delivered()


async def test_a_reset_is_an_error_there_and_the_connection_lives() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        stream = await one.open_stream()
        await stream.write(b"x")
        receiving = await other.accept_stream()
        assert await receiving.read(1) == b"x"
        receiving.reset(1)
        with pytest.raises(PeerError):
            await stream.read(1)
        with pytest.raises(PeerError):
            await stream.write(bytes(WRITE_LIMIT * 2))
        again = await one.open_stream()
        await again.write(b"y")
        assert await (await other.accept_stream()).read(1) == b"y"


async def test_closing_one_side_ends_every_wait_on_the_other() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        stream = await one.open_stream()
        waits = [stream.read(1), one.accept_stream(), one.accept_uni()]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.sleep(0)
        other.close(1, "enough")
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, PeerError)
            assert "enough" in str(result)
        await one.wait_closed()
        with pytest.raises(PeerError):
            await one.open_stream()


async def test_a_finished_connection_leaves_no_route_no_timer_and_no_task() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, _other, over = await pair(server, client)
        one.close()
        over.set()
        async with asyncio.timeout(5):
            while server.connections or client.connections:
                await asyncio.sleep(0.01)
        for endpoint in (server, client):
            assert not endpoint._routes
            assert not endpoint._reset_tokens
            assert not endpoint._tasks
        loop = asyncio.get_running_loop()
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


async def test_an_idle_endpoint_has_no_timer() -> None:
    async with open_endpoint() as endpoint:
        endpoint.serve(ALPN, Connection.wait_closed)
        await asyncio.sleep(0)
        assert not asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]


async def test_dialing_another_key_or_protocol_or_nobody_fails_and_says_so() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        server.serve(ALPN, Connection.wait_closed)
        address = server.addresses[0]
        with pytest.raises(PeerError, match="Another node"):
            await client.connect(address, node_id=client.node_id, alpn=ALPN)
        with pytest.raises(PeerError, match="ALPN"):
            await client.connect(address, node_id=server.node_id, alpn=ALPN + "1")
        with pytest.raises(PeerError, match="did not answer"):
            await client.connect((loopback(), 9), node_id=None, alpn=ALPN, timeout=0.2)
        with pytest.raises(PeerError, match="no socket"):
            await client.connect(("::1", 9), node_id=None, alpn=ALPN)
        assert (await client.connect(address, node_id=None, alpn=ALPN)).peer_id == server.node_id


async def test_a_full_server_says_so_and_a_place_is_free_after_a_close() -> None:
    async with open_endpoint(admission=Admission(connections=2)) as server, open_endpoint() as client:
        server.serve(ALPN, _keep)
        for _ in range(3):
            one = await client.connect(server.addresses[0], node_id=None, alpn=ALPN, timeout=1)
            two = await client.connect(server.addresses[0], node_id=None, alpn=ALPN, timeout=1)
            with pytest.raises(PeerBusyError):
                async with asyncio.timeout(0.15):
                    await client.connect(server.addresses[0], node_id=None, alpn=ALPN)
            one.close()
            two.close()
            await asyncio.sleep(0.02)


async def test_only_handshakes_of_proved_addresses_count_for_a_network() -> None:
    async with open_endpoint(admission=Admission(handshakes=1, lan_handshakes=1)) as server, open_endpoint() as client:
        server.serve(ALPN, _nothing)
        for _ in range(2):  # the first is unproved, the second is asked to prove its address
            (await client.connect(server.addresses[0], node_id=None, alpn=ALPN)).close()
        with pytest.raises(PeerError, match="did not answer"):
            await client.connect(server.addresses[0], node_id=None, alpn=ALPN, timeout=0.5)


async def _keep(connection: Connection) -> None:
    connection.keep_place()
    await connection.wait_closed()


async def test_who_has_not_asked_rightly_goes_when_another_comes() -> None:
    async with open_endpoint(admission=Admission(connections=2)) as server, open_endpoint() as client:
        server.serve(ALPN, Connection.wait_closed)
        dialed = [await client.connect(server.addresses[0], node_id=None, alpn=ALPN, timeout=1) for _ in range(4)]
        async with asyncio.timeout(5):
            await asyncio.gather(dialed[0].wait_closed(), dialed[1].wait_closed())
        assert not dialed[2].is_closed
        assert not dialed[3].is_closed


async def test_connections_that_ended_and_linger_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypatcher.transport.endpoint._CONNECTIONS_LIMIT", 3)
    monkeypatch.setattr(Connection, "_timer_fired", lambda _connection: None)  # it lingers until its timer fires
    async with open_endpoint() as server, open_endpoint() as client:
        server.serve(ALPN, _nothing)
        for _ in range(6):
            connection = await client.connect(server.addresses[0], node_id=None, alpn=ALPN, timeout=5)
            await connection.wait_closed()
        assert server.connections == 3


async def test_a_dial_that_is_cancelled_leaves_nothing() -> None:
    async with open_endpoint() as client:
        dialing = asyncio.ensure_future(client.connect((loopback(), 9), node_id=None, alpn=ALPN))
        await asyncio.sleep(0.01)
        dialing.cancel()
        await asyncio.gather(dialing, return_exceptions=True)
        async with asyncio.timeout(5):
            while client.connections:
                await asyncio.sleep(0.01)


async def test_no_stranger_takes_the_packets_of_the_dht_by_what_he_calls_us() -> None:
    """A client chooses the first connection id; these are what KRPC packets have behind their first byte."""
    heard: list[bytes] = []
    async with (
        open_endpoint(on_krpc=lambda data, _source: heard.append(data)) as server,
        open_endpoint() as first,
        open_endpoint() as second,
        open_endpoint() as third,
        open_endpoint() as node,
    ):
        server.serve(ALPN, _nothing)
        told = b"2:ip6:\x7f\x4d"
        for stranger, name in zip((first, second, third), (b"1:ad2:id", b"1:rd2:id", told), strict=True):
            quic = RawKeyConnection(QuicIdentity.from_pair(KeyPair.generate()), [ALPN])
            quic._original_destination_connection_id = quic._peer_cid.cid = name
            quic.connect(server.addresses[0], 0.0)
            for data, _ in quic.datagrams_to_send(0.0):
                stranger.send_krpc(data, server.addresses[0])
        async with asyncio.timeout(5):
            while server.connections < 3:
                await asyncio.sleep(0.01)
        packets = [b"d1:ad2:id20:" + bytes(20), b"d1:rd2:id20:" + bytes(20), b"d" + told + b"\x01\x02\x1a\xe11:r"]
        for packet in packets:
            node.send_krpc(packet, server.addresses[0])
        async with asyncio.timeout(5):
            while len(heard) < len(packets):
                await asyncio.sleep(0.01)
        assert heard == packets


async def _nothing(_: Connection) -> None:
    return


async def test_the_dht_and_quic_share_one_socket_and_get_their_own_packets() -> None:
    heard: list[tuple[bytes, tuple[str, int]]] = []
    hear = {"on_krpc": lambda data, source: heard.append((data, source))}
    async with open_endpoint(**hear) as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        stream = await one.open_stream()
        query = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t4:aaaa1:y1:qe"
        for number in range(200):
            client.send_krpc(query, server.addresses[0])
            client.send_krpc(b"\x01junk", server.addresses[0])
            await stream.write(number.to_bytes(2, "big") * 500)
        await stream.finish()
        receiving = await other.accept_stream()
        got = b""
        while part := await receiving.read(10_000):
            got += part
        assert got == b"".join(number.to_bytes(2, "big") * 500 for number in range(200))
        async with asyncio.timeout(5):
            while len(heard) < 200:
                await asyncio.sleep(0.01)
        assert set(heard) == {(query, client.addresses[0])}


async def test_both_families_get_one_port_and_a_taken_one_is_left_alone() -> None:
    first = await Endpoint.open(KeyPair.generate(), [("127.0.0.1", 0), ("::1", 0)])
    port = first.addresses[0][1]
    second = await Endpoint.open(KeyPair.generate(), [("127.0.0.1", 0), ("::1", 0)], preferred_port=port)
    try:
        assert [port for _, port in first.addresses] == [port, port]
        assert second.addresses[0][1] == second.addresses[1][1] != port
        await first.close()
        third = await Endpoint.open(KeyPair.generate(), [("127.0.0.1", 0), ("::1", 0)], preferred_port=port)
        assert [port for _, port in third.addresses] == [port, port]
        await third.close()
    finally:
        await first.close()
        await second.close()


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EPERM, errno.EACCES])
async def test_a_family_that_this_machine_forbids_is_left_out(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.bind

    def bind(opened: socket.socket, address: tuple[str, int]) -> None:
        if opened.family == socket.AF_INET6:
            raise OSError(number, "not here")
        real(opened, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    endpoint = await Endpoint.open(KeyPair.generate(), [("::1", 0), ("127.0.0.1", 0)])
    assert [host for host, _ in endpoint.addresses] == ["127.0.0.1"]
    await endpoint.close()
    with pytest.raises(SettingError):
        await Endpoint.open(KeyPair.generate(), [("::1", 0)])


async def test_it_works_over_ipv6() -> None:
    server = await Endpoint.open(KeyPair.generate(), [("::1", 0)])
    client = await Endpoint.open(KeyPair.generate(), [("::1", 0)])
    try:
        one, other, _ = await pair(server, client)
        assert other.peer_address == client.addresses[0]
        stream = await one.open_stream()
        await stream.write(bytes(100_000))
        receiving = await other.accept_stream()
        assert await receiving.read_exactly(100_000) == bytes(100_000)
    finally:
        await client.close()
        await server.close()


async def test_a_port_that_was_asked_for_and_is_taken_is_a_clear_error() -> None:
    async with open_endpoint() as endpoint:
        with pytest.raises(SettingError, match="PYPATCHER_BIND"):
            await Endpoint.open(KeyPair.generate(), [endpoint.addresses[0]])


async def test_a_path_that_carries_more_than_1200_bytes_is_found_and_used() -> None:
    async with open_endpoint() as server, open_endpoint(max_datagram_size=1400) as client:
        one, other, _ = await pair(server, client)
        stream = await one.open_stream()
        await stream.write(bytes(200_000))
        await (await other.accept_stream()).read_exactly(200_000)
        async with asyncio.timeout(5):
            while one._quic.datagram_size != 1400 or other._quic.datagram_size != 1452:
                await asyncio.sleep(0.01)


async def test_a_path_that_loses_large_datagrams_stays_at_1200_and_works() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        for endpoint in (server, client):
            (udp,) = endpoint._sockets.values()
            send = udp.send_all
            udp.send_all = lambda trains, source, send=send: send(  # type: ignore[method-assign]
                [train for train in trains if train[1] <= 1200], source=source
            )
        one, other, _ = await pair(server, client)
        stream = await one.open_stream()
        writing = asyncio.ensure_future(stream.write(bytes(400_000)))
        await (await other.accept_stream()).read_exactly(400_000)
        await writing
        assert one._quic.datagram_size == 1200


async def test_closing_an_endpoint_tells_its_peers_and_frees_its_sockets(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with open_endpoint() as client:
        async with open_endpoint() as server:
            one, _other, _ = await pair(server, client)
            address = server.addresses[0]
        async with asyncio.timeout(2):
            await one.wait_closed()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(address)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_a_stream_that_comes_behind_the_end_is_not_accepted() -> None:
    """Its reader would wait for ever: what ends a connection fails the streams that there are by then."""
    async with open_endpoint() as server, open_endpoint() as client:
        dialed, accepted, over = await pair(server, client)
        stream = await dialed.open_stream()
        await stream.write(b"x")
        feed = accepted.feed

        def feed_and_end(train: Train, now: float) -> None:
            feed(train, now)
            accepted.open_batch(now)
            if accepted._quic._after:  # the stream is there, and nobody was told yet
                accepted.close()

        accepted.feed = feed_and_end  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            await dialed.wait_closed()
            with pytest.raises(PeerError, match="closed"):
                await accepted.accept_stream()
        over.set()


async def test_a_peer_that_forgot_a_connection_ends_it_by_its_reset_token() -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        one, other, _ = await pair(server, client)
        token = other._quic._host_cids[0].stateless_reset_token
        server.send_krpc(b"\x45" + bytes(30) + bytes(16), client.addresses[0])
        await asyncio.sleep(0.02)
        assert not one.is_closed
        server.send_krpc(b"\x45" + bytes(30) + token, client.addresses[0])
        async with asyncio.timeout(1):
            await one.wait_closed()
        assert client.connections == 0


async def test_on_a_move_who_dialed_tells_its_peer_the_other_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        dialed, accepted, _ = await pair(server, client)
        for endpoint in (server, client):
            endpoint.address_changed()
        assert not dialed.is_closed
        assert not accepted.is_closed, "nothing has changed"
        monkeypatch.setattr("pypatcher.transport.endpoint.source_for", lambda _: "127.0.0.99")
        client.address_changed()
        stream = await dialed.open_stream()
        await stream.write(b"still there")
        assert await (await accepted.accept_stream()).read_exactly(11) == b"still there"
        server.address_changed()
        with pytest.raises(PeerError, match="address changed"):
            await accepted.accept_stream()


async def test_the_end_of_the_application_is_no_failure_to_serve(caplog: pytest.LogCaptureFixture) -> None:
    async with open_endpoint() as server, open_endpoint() as client:
        for error in (RuntimeError("cannot schedule new futures after shutdown"), RuntimeError("a bug")):

            async def handle(_: Connection, error: Exception = error) -> None:
                raise error

            server.serve(ALPN, handle)
            dialed = await client.connect(server.addresses[0], node_id=server.node_id, alpn=ALPN)
            await dialed.wait_closed()
    assert "shutdown" not in caplog.text
    assert "a bug" in caplog.text


@pytest.mark.parametrize("first", [0x80, 0xBF, 0xC0, 0xFF])
async def test_a_peer_of_another_version_is_an_error_in_words(first: int) -> None:
    class Other(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
            theirs, ours = data[6 : 6 + data[5]], data[7 + data[5] :][: data[6 + data[5]]]
            answer = encode_quic_version_negotiation(
                source_cid=theirs, destination_cid=ours, supported_versions=[0x1A2A3A4A]
            )
            self.transport.sendto(bytes((first,)) + answer[1:], source)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Other, local_addr=("127.0.0.1", 0))
    endpoint = await Endpoint.open(KeyPair.generate(), [("127.0.0.1", 0)])
    with pytest.raises(PeerError, match="speaks no version of QUIC"):
        await endpoint.connect(transport.get_extra_info("sockname")[:2], node_id=None, alpn="a-test")
    await endpoint.close()
    transport.close()


async def test_a_turn_of_the_loop_sends_its_share_whoever_waits() -> None:
    """20 peers that may be sent 200 packets each at once: the loop has others to run, and other peers to hear."""
    loop, peers = asyncio.get_running_loop(), 20
    given = asyncio.Queue[Connection]()
    turns = Counter[int]()
    turn = 0

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(next_turn)

    async def handle(connection: Connection) -> None:
        given.put_nowait(connection)
        await connection.wait_closed()

    async with contextlib.AsyncExitStack() as ended:
        server, *clients = [await ended.enter_async_context(open_endpoint()) for _ in range(1 + peers)]
        server.serve(ALPN, handle)
        for client in clients:
            await client.connect(server.addresses[0], node_id=server.node_id, alpn=ALPN)
        connections = [await given.get() for _ in range(peers)]
        (udp,) = server._sockets.values()

        def count(trains: list[Train], **_: bytes) -> None:
            packets = sum(-(-len(data) // size) for data, size, _ in trains)
            turns[turn] += packets
            sizes.append(packets)

        sizes: list[int] = []
        udp.send_all = count
        for connection in connections:
            machine = connection._quic.established
            assert machine is not None
            recovery = machine.state.recovery
            recovery.cubic.window = 1 << 20
            recovery.pacer.update(recovery.cubic.window, 0.001, True)
            machine.state.flow.send_limit = 1 << 21
            stream = machine.open(True)
            machine.state.flow.streams[stream].sending.limit = 1 << 21
            machine.write(stream, bytes(300_000), True)
            connection._host.wake(connection)
        next_turn()
        async with asyncio.timeout(30):
            while sum(sizes) < peers * 200:
                await asyncio.sleep(0)
    assert max(turns.values()) < 512 + max(sizes) <= 512 + 256


async def test_a_forged_byte_does_not_choose_from_where_we_ask_and_dial() -> None:
    """The attack: its source is a peer's, its destination another address of ours, which the peer may not reach."""
    loop = asyncio.get_running_loop()

    def answer(_data: bytes, source: Address) -> None:
        node.send_krpc(b"answer", source)

    node = await Endpoint.open(KeyPair.generate(), [("0.0.0.0", 0)], on_krpc=answer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer:
        peer.bind(("127.0.0.1", 0))
        address = peer.getsockname()
        dial = asyncio.create_task(node.connect(address, node_id=None, alpn=ALPN))
        sources = []
        async with asyncio.timeout(10):
            for _ in range(3):  # first packets of a dial, the later ones after a pause
                peer.sendto(b"\0", ("127.0.0.9", node.addresses[0][1]))
                sources.append((await loop.sock_recvfrom(peer, 2000))[1][0])
            dial.cancel()
            await asyncio.gather(dial, return_exceptions=True)
            node.send_krpc(b"question", address)
            peer.sendto(b"d", ("127.0.0.9", node.addresses[0][1]))
            said = {}
            while len(said) < 2:
                data, source = await loop.sock_recvfrom(peer, 2000)
                if data in (b"question", b"answer"):
                    said[data] = source[0]
        assert sources == ["127.0.0.1"] * 3
        assert said == {b"question": "127.0.0.1", b"answer": "127.0.0.9"}
    await node.close()


async def test_a_forged_byte_moves_no_connection_to_another_address_of_ours() -> None:
    """The attack: as the test above, while the peer waits for what we send: nothing of it arrived any more."""
    heard, served = asyncio.Event(), asyncio.Queue[Connection]()

    async def serve(connection: Connection) -> None:
        served.put_nowait(connection)
        await connection.wait_closed()

    node = await Endpoint.open(KeyPair.generate(), [("0.0.0.0", 0)], on_krpc=lambda _data, _source: heard.set())
    node.serve(ALPN, serve)
    peer = await Endpoint.open(KeyPair.generate(), [("127.0.0.1", 0)])
    port = node.addresses[0][1]
    async with asyncio.timeout(10):
        taken = await peer.connect(("127.0.0.1", port), node_id=None, alpn=ALPN)
        given = await served.get()
        await asyncio.sleep(0.2)  # the handshake's last packets
        peer.send_krpc(b"d", ("127.0.0.9", port))
        await heard.wait()
        stream = await given.open_uni()
        await stream.write(b"true")
        await stream.finish()
        assert await (await taken.accept_uni()).read_exactly(4) == b"true"
    await peer.close()
    await node.close()
