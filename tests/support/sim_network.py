"""A network for thousands of nodes on virtual time: latency, loss, routers of every kind, and what each host sent.

Datagrams go from one outside address to another. A router lets in what comes from where something went a minute ago at
most (``easy``: one port for all; ``hard``: another port for each destination). Every host has a randomness of its own,
so that what one does changes nothing for another. Not here: what is in the datagrams.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from pypatcher.addresses import Address
from tests.support.sim_loop import SimLoop

__all__ = ["PORT", "ROUTERS", "SimHost", "SimNetwork"]

PORT = 6881
ROUTERS = ("public", "easy", "hard")
HEADERS = 28
"""Bytes of IPv4 and UDP that every datagram costs beside its own."""
_MAPPING = 60.0
_MAPPINGS = 512


@dataclass(eq=False, slots=True)
class SimHost:
    """Who is at one outside address.

    Attributes:
        receive: takes a datagram and where it came from; None while the host is off.
        router: see ``ROUTERS``.
        sent, received: bytes, headers included.
        packets: how many it sent.
        endpoint: who is dialed there; None while nobody is.
    """

    address: Address
    receive: Callable[[bytes, Address], None] | None
    router: str
    rng: random.Random
    sent: int = 0
    received: int = 0
    packets: int = 0
    endpoint: Any = None
    opened: dict[Address, float] = field(default_factory=dict)

    def port_for(self, destination: Address) -> Address:
        """Where that destination sees us."""
        if self.router != "hard":
            return self.address
        return self.address[0], 1024 + zlib.crc32(repr((self.address, destination)).encode()) % 64_000

    def open(self, destination: Address, now: float) -> None:
        """Something goes there: its answers are let in for a while."""
        self.opened[destination] = now
        if len(self.opened) > _MAPPINGS:
            self.opened = {each: when for each, when in self.opened.items() if now - when < _MAPPING}

    def lets_in(self, seen: Address, port: Address, now: float) -> bool:
        """Whether something from ``seen`` to ``port`` comes through its router."""
        if self.router == "public":
            return True
        return now - self.opened.get(seen, -_MAPPING) < _MAPPING and (
            self.router != "hard" or self.port_for(seen) == port
        )


class SimNetwork:
    """Carries datagrams.

    Args:
        latency: seconds one way, between these.
        loss: share of the datagrams that are lost.

    Attributes:
        messages: how many datagrams were sent.
    """

    def __init__(self, seed: int, latency: tuple[float, float], loss: float) -> None:
        self.latency = latency
        self.messages = 0
        self._seed = seed
        self._low, self._span = latency[0], latency[1] - latency[0]
        self._loss = loss
        self._loop = cast("SimLoop", asyncio.get_running_loop())
        self._hosts: dict[Address, SimHost] = {}

    def host(self, address: Address, router: str = "public") -> SimHost:
        """The host at that address, made if there is none."""
        found = self._hosts.get(address)
        if found is None:
            rng = random.Random(f"{self._seed} {address}")
            found = self._hosts[address] = SimHost(address, None, router, rng)
        return found

    def at(self, address: Address) -> SimHost | None:
        """Whose that address is; behind a hard router every port leads to the one host."""
        found = self._hosts.get(address)
        if found is None:
            found = self._hosts.get((address[0], PORT))
            if found is not None and found.router != "hard":
                return None
        return found

    def delay(self, host: SimHost) -> float:
        """Seconds that something from there takes."""
        return self._low + self._span * host.rng.random()

    def send(self, source: SimHost, data: bytes, destination: Address) -> None:
        """One datagram."""
        if source.receive is None:
            return
        self.messages += 1
        source.packets += 1
        source.sent += len(data) + HEADERS
        if source.router != "public":
            source.open(destination, self._loop.time())
        if source.rng.random() >= self._loss:
            self._loop.post(self.delay(source), self._arrive, data, source, destination)

    def route(self, source: SimHost, destination: Address) -> tuple[SimHost, Address] | None:
        """Who gets what is sent there now, and from where it seems to come; None if nobody does."""
        host = self.at(destination)
        if host is None or host.receive is None:
            return None
        seen = source.port_for(destination)
        return (host, seen) if host.lets_in(seen, destination, self._loop.time()) else None

    def _arrive(self, data: bytes, source: SimHost, destination: Address) -> None:
        found = self.route(source, destination)
        if found is not None:
            host, seen = found
            host.received += len(data) + HEADERS
            assert host.receive is not None
            host.receive(data, seen)
