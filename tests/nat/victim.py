"""A host that never asked for anything, and counts what it is sent: ``python -m tests.nat.victim PORTS``.

Prints a line for each UDP packet that arrives, its first bytes as hex, and an empty one for each answer. With PORTS
above 0 so many ports, from 1 on, answer every KRPC query as an ordinary DHT node does; with 0 nobody is there.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from subprocess import DEVNULL, PIPE
from typing import cast

from pypatcher.addresses import Address
from pypatcher.dht import krpc
from pypatcher.errors import CodecError
from tests.nat.lab import Lab

__all__ = ["Victim", "start_victim"]

_ETH_P_IP = 0x0800
_UDP = 17
_ID = b"\x5a" * 20


@dataclass
class Victim:
    """A victim, the packets it got (seconds by ``time.monotonic``, first bytes), and how many it answered."""

    address: str
    process: asyncio.subprocess.Process
    packets: list[tuple[float, bytes]] = field(default_factory=list)
    answers: int = 0
    _hit: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Count until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if data := bytes.fromhex(line.decode()):
                self.packets.append((time.monotonic(), data))
                self._hit.set()
            else:
                self.answers += 1

    async def is_hit(self, seconds: float) -> bool:
        """Wait for the first packet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hit.wait()
        return self._hit.is_set()

    @property
    def most_in_a_minute(self) -> int:
        """Packets in the worst 60 seconds."""
        times = [when for when, _ in self.packets]
        return max((sum(start <= when < start + 60 for when in times) for start in times), default=0)

    @property
    def connections(self) -> int:
        """Packets that are no KRPC."""
        return sum(not data.startswith(b"d") for _, data in self.packets)

    async def stop(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        await self.process.wait()
        if self._reader is not None:
            await self._reader


async def start_victim(world: Lab, name: str, answering_ports: int) -> Victim:
    """A victim at a public address of its own."""
    namespace = world.namespace(name)
    address, _ = world.connect(namespace, world.new_site())
    process = await asyncio.create_subprocess_exec(
        *world.enter(namespace),
        *(sys.executable, "-m", "tests.nat.victim", str(answering_ports)),
        stdin=DEVNULL,
        stdout=PIPE,
    )
    victim = Victim(address, process)
    assert process.stdout is not None
    await process.stdout.readline()
    victim._reader = asyncio.create_task(victim.read())
    return victim


class _Node(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        with suppress(CodecError):
            query = krpc.decode(data)
            if isinstance(query, krpc.Query):
                self._transport.sendto(krpc.encode_response(query.transaction, _ID, {}, addr), addr)
                print(flush=True)


async def _suffer(ports: int) -> None:
    loop = asyncio.get_running_loop()
    for port in range(1, ports + 1):
        await loop.create_datagram_endpoint(_Node, local_addr=("0.0.0.0", port))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as wire:
        wire.setblocking(False)
        print("ready", flush=True)
        while True:
            packet, source = await loop.sock_recvfrom(wire, 2048)
            header = 4 * (packet[0] & 15)
            if source[2] == socket.PACKET_HOST and packet[9] == _UDP:
                print(packet[header + 8 : header + 40].hex(), flush=True)


if __name__ == "__main__":
    asyncio.run(_suffer(int(sys.argv[1])))
