"""The cipher of a connection is the one that the weaker processor is good at."""

from __future__ import annotations

import asyncio

import pytest
from aioquic.tls import CipherSuite

from pypatcher.transport import Connection, quic
from pypatcher.transport.ciphers import cipher_order, has_aes, order_for_client
from tests.support.transport import ALPN, open_endpoint

AES, AES_256 = CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384
CHACHA = CipherSuite.CHACHA20_POLY1305_SHA256
AES_FIRST, CHACHA_FIRST = (AES, CHACHA, AES_256), (CHACHA, AES, AES_256)
GREASE = 0x2A2A

PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
PI_5 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32\n"
PI_3_32_BIT = "model name\t: ARMv7 Processor rev 4 (v7l)\nFeatures\t: half thumb fastmult vfp edsp neon vfpv3 crc32\n"
PC = "vendor_id\t: GenuineIntel\nflags\t\t: fpu vme sse4_2 aes avx\n"
OLD_PC = "vendor_id\t: GenuineIntel\nflags\t\t: fpu vme sse4_2\nbugs\t\t: aes\n"


@pytest.mark.parametrize(
    ("cpuinfo", "there"),
    [(PI_4, False), (PI_5, True), (PI_3_32_BIT, False), (PC, True), (OLD_PC, False), ("", False)],
)
def test_the_kernel_says_whether_there_are_aes_instructions(cpuinfo: str, there: bool) -> None:
    assert has_aes(cpuinfo) is there


@pytest.mark.parametrize(
    ("own", "offered", "chosen"),
    [
        (AES_FIRST, [AES, CHACHA], AES),
        (AES_FIRST, [CHACHA, AES], CHACHA),
        (AES_FIRST, [GREASE, CHACHA, AES], CHACHA),
        (AES_FIRST, [AES_256, CHACHA], CHACHA),
        (AES_FIRST, [AES_256], AES_256),
        (CHACHA_FIRST, [AES, CHACHA], CHACHA),
        (CHACHA_FIRST, [AES], AES),
    ],
)
def test_a_server_takes_chacha20_for_whoever_is_worse_at_aes(
    own: tuple[CipherSuite, ...], offered: list[int], chosen: CipherSuite
) -> None:
    order = order_for_client(own, offered)
    assert next(suite for suite in order if suite in offered) == chosen


@pytest.mark.parametrize(
    ("client", "server", "chosen"),
    [
        (AES_FIRST, AES_FIRST, AES),
        (CHACHA_FIRST, AES_FIRST, CHACHA),
        (AES_FIRST, CHACHA_FIRST, CHACHA),
        (CHACHA_FIRST, CHACHA_FIRST, CHACHA),
    ],
)
async def test_connections_use_what_the_weaker_side_is_good_at(
    monkeypatch: pytest.MonkeyPatch,
    client: tuple[CipherSuite, ...],
    server: tuple[CipherSuite, ...],
    chosen: CipherSuite,
) -> None:
    served: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
    orders = iter((client, server))
    monkeypatch.setattr(quic, "cipher_order", lambda: next(orders))

    async def serve(connection: Connection) -> None:
        stream = await connection.accept_stream()
        await stream.write(await stream.read_exactly(5))
        await stream.finish()
        served.set_result(connection)
        await connection.wait_closed()

    async with open_endpoint() as holder, open_endpoint() as taker:
        holder.serve(ALPN, serve)
        dialed = await taker.connect(holder.addresses[0], node_id=holder.node_id, alpn=ALPN)
        stream = await dialed.open_stream()
        await stream.write(b"bytes")
        await stream.finish()
        assert await stream.read_exactly(5) == b"bytes"
        for connection in (dialed, await served):
            assert connection._quic.tls.key_schedule.cipher_suite == chosen


def test_this_machine_has_an_order() -> None:
    assert cipher_order() in (AES_FIRST, CHACHA_FIRST)
