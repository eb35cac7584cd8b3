"""Floods: garbage and first packets without end cost bounded memory, and honest transfers go on meanwhile.

RFC 9000 sections 6 and 8. What each flood cost is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import time
from pathlib import Path

import pytest

from pypatcher import bencode
from pypatcher.addresses import parse_address
from pypatcher.keys import KeyPair
from pypatcher.transport import CloseCode
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity
from tests.support.devices import Device, LoopbackFleet
from tests.support.siege import SIZE, Siege, descriptors, fetch, open_siege, resident
from tests.support.transport import ALPN, loopback, open_endpoint

HALF_OPEN = 8
"""Handshakes that may be unfinished at once; see ``Admission``."""


async def test_garbage_quic_of_every_shape_leaves_no_trace(honest: Siege) -> None:
    noise = random.Random(1)
    genuine = first_packet()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.bind((loopback(), 0))
        for number in range(3000):
            packet = bytearray(noise.randbytes(noise.choice((0, 1, 5, 7, 21, 100, 1199, 1200, 1400))))
            if number % 3 == 0:
                packet = bytearray(genuine)
                for _ in range(noise.randrange(1, 6)):
                    packet[noise.randrange(len(packet))] = noise.randrange(256)
            elif packet and number % 3 == 1:
                packet[0] |= 0xC0
                packet[1:5] = noise.choice((b"\0\0\0\1", b"\0\0\0\0", noise.randbytes(4)))
            attacker.sendto(bytes(packet), honest.address)
            if number % 50 == 0:
                await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert honest.endpoint.connections <= 4 + honest.connections


def first_packet(destination: tuple[str, int] = ("127.0.0.1", 9)) -> bytes:
    """The first datagram of a genuine client."""
    quic = RawKeyConnection(QuicIdentity.from_pair(KeyPair.generate()), [ALPN])
    quic.connect(destination, 0.0)
    ((data, _),) = quic.datagrams_to_send(0.0)
    return data


async def test_version_negotiation_is_answered_once_and_never_to_itself(honest: Siege) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
        stranger.bind((loopback(), 0))
        unknown = bytes([0xC0]) + b"\x0a\x0a\x0a\x0a" + b"\x08" + b"A" * 8 + b"\x04" + b"B" * 4
        stranger.sendto(unknown + bytes(1200), honest.address)
        async with asyncio.timeout(2):
            answer = await loop.sock_recv(stranger, 2000)
        assert answer[1:5] == bytes(4)
        assert answer.endswith(b"\x00\x00\x00\x01")
        assert len(answer) < 50
        stranger.sendto(answer + bytes(1200), honest.address)
        stranger.sendto(unknown, honest.address)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await loop.sock_recv(stranger, 2000)


async def test_half_open_handshakes_fill_no_place(honest: Siege) -> None:
    packets = [first_packet() for _ in range(400)]
    with contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(40)]
        for attacker in attackers:
            attacker.bind((loopback(), 0))
        for number, packet in enumerate(packets):
            attackers[number % 40].sendto(packet, honest.address)
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert honest.endpoint.connections <= HALF_OPEN + honest.connections
        honest.measure()
        # Who echoes the token gets in at once, while the flood stands.
        async with open_endpoint() as client:
            assert len(await fetch(honest.server, client)) == SIZE


FLOODER = """
import itertools, pathlib, socket, sys, time
packets = pathlib.Path(sys.argv[1]).read_bytes()
packets = [packets[start : start + 1200] for start in range(0, len(packets), 1200)]
sockets = []
for host in range(1, 65):
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sockets[-1].bind((f"127.66.0.{host}", 0))
print("flooding", flush=True)
for sent, (packet, source) in enumerate(zip(itertools.cycle(packets), itertools.cycle(sockets))):
    source.sendto(packet, (sys.argv[2], int(sys.argv[3])))
    if sent % 10 == 0:
        time.sleep(0.001 if len(sys.argv) < 5 else 0)
    if sent % 1000 == 0:
        print(sent, flush=True)
"""
"""Sends first packets from 64 hosts until it is killed: up to 10,000 a second, which fill a line of 100 Mbit/s."""


async def test_a_flood_of_handshakes_lets_a_fetch_through(honest: Siege, tmp_path: Path) -> None:
    (tmp_path / "packets").write_bytes(b"".join(first_packet() for _ in range(200)))
    host, port = honest.address
    flooder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FLOODER, tmp_path / "packets", host, str(port), stdout=asyncio.subprocess.PIPE
    )
    assert flooder.stdout is not None
    try:
        assert await flooder.stdout.readline() == b"flooding\n"
        began, times = time.monotonic(), []
        async with open_endpoint() as client:
            for _ in range(3):
                start = time.monotonic()
                assert len(await fetch(honest.server, client)) == SIZE
                times.append(time.monotonic() - start)
        seconds = time.monotonic() - began
        assert honest.endpoint.connections <= HALF_OPEN + honest.connections + len(times)
    finally:
        flooder.kill()
        said, _ = await flooder.communicate()
    rate = int(said.split()[-1]) / seconds
    print(f"{rate:.0f} first packets a second: a fetch of 1 MB in {', '.join(f'{each:.1f}' for each in times)} s")


async def test_a_thousand_connections_of_one_peer_leave_room_for_others(tmp_path: Path) -> None:
    # The attacker's thousand connections are in this process too.
    attack = "a thousand connections of one peer"
    async with (
        open_siege(tmp_path, attack, memory=400 << 20) as siege,
        open_endpoint() as client,
        open_endpoint() as crowd,
    ):
        dials = [
            asyncio.ensure_future(crowd.connect(siege.address, node_id=None, alpn=ALPN, timeout=3)) for _ in range(1000)
        ]
        await asyncio.sleep(0.5)
        assert siege.endpoint.connections <= HALF_OPEN + siege.connections
        assert len(await fetch(siege.server, client)) == SIZE
        results = await asyncio.gather(*dials, return_exceptions=True)
        # Idlers make room for those who come later: so many are there at once.
        assert (
            sum(not connection.is_closed for connection in siege.endpoint._connections) <= HALF_OPEN + siege.connections
        )
        siege.measure()
        del results, dials


async def test_garbage_krpc_keeps_no_device_from_its_update(world: LoopbackFleet, device: Device) -> None:
    started = await device.wait_for("node.started")
    address, files = parse_address(started.addresses[0]), descriptors()
    before, sent = resident(), 0

    async def flood() -> None:
        nonlocal sent
        noise = random.Random(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.bind((loopback(), 0))
            while True:
                attacker.sendto(garbage_krpc(noise), address)
                sent += 1
                await asyncio.sleep(0.001 if sent % 20 == 0 else 0)

    attack = asyncio.create_task(flood())
    try:
        path, _ = world.release("2.0.0")
        world.device(path)
        await device.wait_for("release.staged")
        # The honest device's two sockets and files are in this process too.
        grown, more = resident() - before, descriptors() - files
        print(f"garbage KRPC: {sent} datagrams, {grown / 1e6:.1f} MB of memory and {more} descriptors more")
        assert grown < 64 << 20
        assert more < 16
    finally:
        attack.cancel()
        await asyncio.gather(attack, return_exceptions=True)
    assert device.restart() == "2.0.0"


def garbage_krpc(noise: random.Random) -> bytes:
    """What starts as the DHT's messages do, and is none, or a message that makes no sense, or a true one flooded."""
    query = {b"a": {b"id": noise.randbytes(20), b"target": noise.randbytes(20)}, b"q": b"find_node"}
    message: dict[bytes, bencode.Value] = {**query, b"t": noise.randbytes(2), b"y": b"q"}  # type: ignore[dict-item]
    match noise.randrange(6):
        case 0:
            return b"d1:" + noise.randbytes(noise.randrange(1400))
        case 1:
            return b"d" * noise.randrange(1, 1400)
        case 2:
            message[b"a"] = {b"id": noise.randbytes(noise.choice((0, 19, 21, 1000)))}
        case 3:
            message = {b"t": noise.randbytes(2), b"y": b"r", b"r": {b"id": noise.randbytes(20), b"nodes": b"x" * 25}}
        case 4:
            message[b"q"] = noise.choice((b"", b"vote", b"put", b"announce_peer"))
        case _:
            data = bytearray(bencode.encode(message))
            data[noise.randrange(len(data))] = noise.randrange(256)
            return bytes(data)
    return bencode.encode(message)


async def test_a_server_is_no_amplifier(honest: Siege) -> None:
    packets = [first_packet() for _ in range(30)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as victim:
        victim.bind((loopback(), 0))
        for packet in packets:
            victim.sendto(packet, honest.address)
        await asyncio.sleep(1.5)
        received = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                received += len(victim.recv(2000))
        assert received <= 3 * sum(map(len, packets))


async def test_a_busy_answer_cannot_be_forged_by_a_third_party(honest: Siege) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((loopback(), 0))
            noise = random.Random(3)
            for connection_id in list(client._routes):
                for _ in range(50):
                    stranger.sendto(b"\x40" + connection_id + noise.randbytes(60), client.addresses[0])
        await asyncio.sleep(0.05)
        assert not connection.is_closed
        connection.close(CloseCode.DONE)
