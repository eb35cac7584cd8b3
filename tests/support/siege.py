"""A server under attack: an honest peer fetches from it all the while, and what the attack costs is measured.

What a test does inside `open_siege` is the attack. Memory and descriptors are those of this
process, in which both sides live: an attack's own sockets and connections count too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from pypatcher.addresses import Address
from pypatcher.errors import PeerError
from pypatcher.transfer import fetch_release
from pypatcher.transport import Endpoint
from tests.support.transport import (
    ALPN,
    OWNER_KEY,
    Kept,
    Server,
    local_release,
    make_release,
    open_endpoint,
    open_server,
)

__all__ = ["MINUTE", "SIZE", "Siege", "descriptors", "fetch", "open_siege", "resident", "until"]

SIZE = 1_000_000
MINUTE = 29_000_000


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """Descriptors that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must become true soon."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def fetch(server: Server, client: Endpoint, **options: object) -> bytes:
    """An honest fetch."""
    connection = await client.connect(server.address, node_id=server.endpoint.node_id, alpn=ALPN)
    got = options.pop("sink", Kept())
    settings = {"owner": OWNER_KEY, "expect": None, "now": lambda: MINUTE * 60.0}
    try:
        await fetch_release(connection, got, **{**settings, **options})
    finally:
        connection.close()
    return bytes(got)


@dataclass
class Siege:
    """A server, its honest peer's success, and the most memory and descriptors that there were.

    Attributes:
        transfers, failures: honest ones that ended, well or not, while the attack went on.
    """

    server: Server
    memory: int
    files: int
    transfers: int = 0
    failures: int = 0

    @property
    def address(self) -> Address:
        """The server's."""
        return self.server.address

    @property
    def endpoint(self) -> Endpoint:
        """The server's."""
        return self.server.endpoint

    @property
    def connections(self) -> int:
        """The most that honest peers can have now: the two of before and of now, and those that are being closed."""
        return 2 + self.transfers + self.failures

    async def go_on(self, client: Endpoint, body: bytes) -> None:
        """Fetch over and over, and measure."""
        while True:
            try:
                assert await fetch(self.server, client) == body
                self.transfers += 1
            except PeerError:
                self.failures += 1
                await asyncio.sleep(0.05)
            self.measure()

    def measure(self) -> None:
        """Look at memory and descriptors now."""
        self.memory, self.files = max(self.memory, resident()), max(self.files, descriptors())


@contextlib.asynccontextmanager
async def open_siege(folder: Path, attack: str, *, memory: int = 64 << 20) -> AsyncIterator[Siege]:
    """Around an attack: honest transfers before, during and after it, no descriptor left behind, memory bounded.

    Args:
        attack: its name, for the report that is printed.
        memory: bytes by which this process may grow.
    """
    info, body = make_release(folder, SIZE)
    async with open_server(local_release(info, folder / "release")) as server, open_endpoint() as client:
        assert await fetch(server, client) == body
        before, open_files = resident(), descriptors()
        siege = Siege(server, before, open_files)
        honest = asyncio.create_task(siege.go_on(client, body))
        try:
            yield siege
            siege.measure()
            meanwhile = siege.transfers
            # The one that is under way, or the next, must end well.
            await until(lambda: siege.transfers > meanwhile or honest.done())
            assert not honest.done(), honest.exception()
        finally:
            honest.cancel()
            await asyncio.gather(honest, return_exceptions=True)
        grown, more = siege.memory - before, siege.files - open_files
        print(
            f"{attack}: {siege.transfers} honest transfers meanwhile, {siege.failures} put off, "
            f"at most {grown / 1e6:.1f} MB of memory and {more} descriptors more"
        )
        assert grown < memory
        await until(lambda: descriptors() <= open_files)
