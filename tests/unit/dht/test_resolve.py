"""Names of entry points: resolved off the loop, asked once, never in the way of the end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from pypatcher.dht.resolve import Resolver


async def test_a_name_has_the_addresses_of_its_family() -> None:
    assert ("127.0.0.1", 6881) in await Resolver(4).resolve(("localhost", 6881))
    assert all(":" in host for host, _ in await Resolver(6).resolve(("localhost", 6881)))


@pytest.mark.parametrize("name", ["no.such.name.invalid", "x" * 300, "\udcff"])
async def test_a_name_without_address_gives_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    if name.endswith(".invalid"):  # never ask the network's resolver from a test
        monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert await Resolver(4).resolve((name, 6881)) == []


def test_a_resolver_that_hangs_blocks_neither_the_loop_nor_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    release, calls = threading.Event(), 0

    def hang(*_: object, **__: object) -> list[object]:
        nonlocal calls
        calls += 1
        release.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def body() -> None:
        resolver = Resolver(4)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await resolver.resolve(("slow.example", 1))

    started = time.monotonic()
    asyncio.run(body())
    assert time.monotonic() - started < 5
    assert calls == 1
    release.set()
