"""What transport tests share: a signed release of noise, endpoints on loopback that end with their test."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from pypatcher.artifact.patch import PatchInfo, make_info
from pypatcher.budgets import UploadLimiter
from pypatcher.install import LocalRelease
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.transfer import StallRule, serve_release
from pypatcher.transport import Connection, Endpoint
from pypatcher.version import Version

OWNER = KeyPair.from_seed(bytes(range(32)))
OWNER_KEY = OwnerKey(OWNER.public)
ALPN = "/pypatcher/x86_64/xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y/v0"
RUST_ALPN = "/rustpatcher/xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y/v0"

_hosts = itertools.count(random.Random().randrange(1 << 14))


def loopback() -> str:
    """A loopback address that no other test uses just now."""
    number = next(_hosts) % (1 << 14)
    return f"127.77.{number >> 8}.{number & 0xFF or 1}"


def make_release(folder: Path, size: int = 50_000, version: str = "2.0.0") -> tuple[PatchInfo, bytes]:
    """A file of ``size`` bytes of noise and what its owner says about it; its hash is not that of the file."""
    body = random.Random(size).randbytes(size)
    (folder / "release").write_bytes(body)
    return make_info(Version.parse(version), bytes(32), size - 176, OWNER), body


def local_release(info: PatchInfo, path: Path) -> LocalRelease:
    """What is served as ``info`` from ``path``, whatever is there; the whole file's hash is not looked at."""
    return LocalRelease(path, info, bytes(64))


class Kept(bytearray):
    """The sink of a fetch: keeps what comes, and calls what a test does meanwhile.

    Args:
        write: called with the bytes instead of keeping them.
        received: called with the count so far and the total.
    """

    def __init__(
        self,
        write: Callable[[bytes], object] | None = None,
        received: Callable[[int, int], object] = lambda _count, _total: None,
    ) -> None:
        super().__init__()
        self.write = write or self.extend
        self.received = received


class ManualClock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def open_endpoint(**options: object) -> AsyncIterator[Endpoint]:
    """An endpoint with a fresh identity on an address of its own."""
    endpoint = await Endpoint.open(KeyPair.generate(), [(loopback(), 0)], **options)
    try:
        yield endpoint
    finally:
        await endpoint.close()


class OneRelease:
    """A shelf with what a test says, whatever became of the file."""

    def __init__(self, given: LocalRelease | None, limiter: UploadLimiter | None = None) -> None:
        self.given = given
        self.limiter = limiter or UploadLimiter()

    def release(self) -> LocalRelease | None:
        """What may be given now."""
        return self.given


class Server:
    """An endpoint that serves one release, and what became of each connection."""

    def __init__(
        self,
        endpoint: Endpoint,
        release: LocalRelease | None,
        limiter: UploadLimiter,
        minute: int,
        stall: StallRule,
    ) -> None:
        self.endpoint, self.release, self.limiter, self.minute, self.stall = endpoint, release, limiter, minute, stall
        self.outcomes: list[int | Exception] = []

    @property
    def address(self) -> tuple[str, int]:
        return self.endpoint.addresses[0]

    async def handle(self, connection: Connection) -> None:
        try:
            served = await serve_release(
                connection,
                OneRelease(self.release, self.limiter),
                owner=OWNER_KEY,
                now=lambda: self.minute * 60.0,
                stall=self.stall,
            )
        except Exception as error:
            self.outcomes.append(error)
            raise
        self.outcomes.append(0 if served is None else served.info.file_size)


@contextlib.asynccontextmanager
async def open_server(
    release: LocalRelease | None,
    *,
    limiter: UploadLimiter | None = None,
    minute: int = 29_000_000,
    stall: StallRule | None = None,
    alpn: str = ALPN,
    **options: object,
) -> AsyncIterator[Server]:
    """An endpoint that serves ``release``; its clock shows ``minute``."""
    async with open_endpoint(**options) as endpoint:
        server = Server(endpoint, release, limiter or UploadLimiter(), minute, stall or StallRule())
        endpoint.serve(alpn, server.handle)
        yield server
