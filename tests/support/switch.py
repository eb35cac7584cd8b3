"""Endpoints that reach each other without sockets, at any address, on virtual time: attacks from many networks.

    async def body() -> None:
        async with Switch() as switch:
            holder = await switch.endpoint(("8.8.4.1", 6881))
            ...

    run_alone(body())

QUIC, admission and the exchange are the real code; only what ``DatagramSocket`` does is done by ``Switch``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self
from unittest import mock

from pypatcher.addresses import Address
from pypatcher.budgets import UploadLimiter
from pypatcher.established import Train, apart
from pypatcher.install import LocalRelease
from pypatcher.keys import KeyPair
from pypatcher.transfer import serve_release
from pypatcher.transport import Connection, Endpoint
from tests.support.siege import MINUTE
from tests.support.transport import ALPN, OWNER_KEY, OneRelease

__all__ = ["Switch"]

LATENCY = 0.05
_APART = 1e-6


class _Port:
    """What an endpoint takes for its socket."""

    blocked = False

    def __init__(
        self,
        switch: Switch,
        bind: Address,
        on_datagram: Callable[[bytes, Address], None],
        on_batch_end: Callable[[], None],
        _on_writable: Callable[[], None],
        _on_train: Callable[[bytes, int, Address], None],
    ) -> None:
        self.address = bind
        self._switch, self._on_datagram, self._on_batch_end = switch, on_datagram, on_batch_end
        switch.ports[bind] = self

    def send(self, data: bytes, address: Address, **_: bytes) -> None:
        self._switch.carry(bytes(data), self.address, address)

    def send_all(self, trains: list[Train], **_: bytes) -> None:
        for data, address in apart(trains):
            self.send(data, address)

    def asked_by(self, _address: Address) -> bytes:
        return b""

    def take(self, data: bytes, source: Address) -> None:
        self._on_datagram(data, source)
        self._on_batch_end()

    def close(self) -> None:
        self._switch.ports.pop(self.address, None)


class Switch:
    """Carries datagrams; a way takes 50 ms."""

    def __init__(self) -> None:
        self.ports: dict[Address, _Port] = {}
        self._last = 0.0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        make = lambda *arguments: _Port(self, *arguments)  # noqa: E731
        self._stack.enter_context(mock.patch("pypatcher.transport.endpoint.DatagramSocket", make))
        self._stack.enter_context(mock.patch("pypatcher.transport.endpoint.source_for", lambda _: None))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def carry(self, data: bytes, source: Address, destination: Address) -> None:
        """Deliver it later, behind all that left before: a loop has no order for what is due at one moment."""
        loop = asyncio.get_running_loop()
        self._last = max(loop.time() + LATENCY, self._last + _APART)
        loop.call_at(self._last, self.deliver, data, source, destination)

    def deliver(self, data: bytes, source: Address, destination: Address) -> None:
        """What is sent to nowhere is lost."""
        if (port := self.ports.get(destination)) is not None:
            port.take(data, source)

    async def endpoint(self, address: Address, **options: Any) -> Endpoint:
        """A node at that address, until the switch ends."""
        endpoint = await Endpoint.open(KeyPair.generate(), [address], **options)
        self._stack.push_async_callback(endpoint.close)
        return endpoint

    async def holder(self, address: Address, release: LocalRelease, **limits: Any) -> Endpoint:
        """A node that serves a release, with the upload limits of a device unless ``limits`` says otherwise."""
        endpoint, clock = await self.endpoint(address), asyncio.get_running_loop().time
        shelf = OneRelease(release, UploadLimiter(**{"clock": clock, **limits}))

        async def serve(connection: Connection) -> None:
            await serve_release(connection, shelf, owner=OWNER_KEY, now=lambda: MINUTE * 60.0, clock=clock)

        endpoint.serve(ALPN, serve)
        return endpoint
