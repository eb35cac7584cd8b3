"""Neighbours on the same switch, by multicast (BEP 14): found without any Internet.

A node says at its start, then at intervals and when it hears somebody new, on which port it listens and for which
swarm. The codec and ``LanSchedule`` know neither sockets nor tasks; ``Lan`` moves the bytes. A neighbour's word is a
hint like any other. Not here: links and their sockets (``discovery.links``), who is knocked at (``nat``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence

from pypatcher.addresses import Address, is_ipv6, is_lan, subnet_of
from pypatcher.artifact import PatchInfo
from pypatcher.backoff import jittered
from pypatcher.discovery.announcement import is_dialable
from pypatcher.discovery.links import GROUPS, Link, address_on, all_interfaces, choose, open_group
from pypatcher.discovery.namespace import namespace_hash
from pypatcher.discovery.sources.source import AddressLimits, Found, Listener, Surroundings
from pypatcher.limits import Limit, RateLimiter, WindowLimiter
from pypatcher.waiting import wait_at_most

__all__ = ["BEYOND", "NEIGHBOURS", "Lan", "LanSchedule", "decode_search", "encode_search", "lan_source"]

_log = logging.getLogger("pypatcher")

NEIGHBOURS = AddressLimits("LAN", room=512, knocks=240, adds_to_crowd=True, are_neighbours=True)
"""In a /24 of an address of ours: so many hosts can be forged and no more, and each has its turn."""

BEYOND = AddressLimits("LAN beyond", room=64, knocks=60, adds_to_crowd=True, are_neighbours=True)
"""Heard by multicast too, but anybody who can send in this LAN can invent any number of such hosts."""

_LARGEST = 1400
_LOOK_AT_LINKS, _TRY_AGAIN = 5.0, 60.0
_MEMBERSHIPS = 16
"""Interfaces that one socket hears: Linux allows it 20 groups, one for each."""
_READS_PER_WAKE_UP = 16
_INTERVAL, _SHORTEST, _FIRST = 300.0, 60.0, 2.0
_METERED = 3600.0
_KNOWN, _KNOWN_FOR = 256, 900.0
_HEARD_BEYOND = Limit("heard", 20, 1.0)
_HEARD_EACH = (0.25, 4.0)
_PORTS_EACH = 4
_LOOK_SECONDS = 5.0
_HEADER = re.compile(rb"([A-Za-z-]{1,20}):[ \t]*([!-~]{0,120})[ \t]*")


def encode_search(info_hash: bytes, port: int, cookie: str, family: int) -> bytes:
    """One announcement: our UDP port, the info-hash (20 bytes), and a word by which we know our own packets."""
    host, group_port = GROUPS[family]
    shown = f"[{host}]" if family == 6 else host
    return (
        f"BT-SEARCH * HTTP/1.1\r\nHost: {shown}:{group_port}\r\nPort: {port}\r\n"
        f"Infohash: {info_hash.hex()}\r\ncookie: {cookie}\r\n\r\n\r\n"
    ).encode("ascii")


def decode_search(data: bytes, info_hash: bytes, cookie: str) -> int | None:
    """The port of somebody else who is in the swarm of ``info_hash``; None for every other datagram."""
    if len(data) > _LARGEST or not data.startswith(b"BT-SEARCH * HTTP/1.1\r\n"):
        return None
    headers = [match.groups() for line in data.split(b"\r\n")[1:] if (match := _HEADER.fullmatch(line))]
    if any(name.lower() == b"cookie" and value == cookie.encode("ascii") for name, value in headers):
        return None
    wanted = info_hash.hex().encode("ascii")
    if not any(name.lower() == b"infohash" and value.lower() == wanted for name, value in headers):
        return None
    ports = [value for name, value in headers if name.lower() == b"port"]
    if len(ports) != 1 or not ports[0].isdigit() or len(ports[0]) > 5 or not 1 <= int(ports[0]) <= 65535:
        return None
    return int(ports[0])


class LanSchedule:
    """When to announce, and which of the neighbours heard count. Times are monotonic seconds."""

    def __init__(self, rng: random.Random, now: float, interval: float = _INTERVAL) -> None:
        self._rng = rng
        self._interval = interval
        self._last = float("-inf")
        self._next = now + rng.uniform(0, _FIRST)
        self._known: OrderedDict[Address, float] = OrderedDict()
        self._heard = WindowLimiter()
        self._heard_each = RateLimiter(*_HEARD_EACH)

    def due(self, now: float) -> bool:
        """Whether to announce now; if so it is counted."""
        if now < self._next:
            return False
        self._last = now
        self._next = now + jittered(self._interval, self._rng)
        return True

    def soon(self, now: float) -> None:
        """Announce as soon as that is polite: our address changed, or somebody new is there."""
        self._next = min(self._next, max(now + self._rng.uniform(0, _FIRST), self._last + _SHORTEST))

    def heard(self, neighbour: Address, now: float, *, near: bool = True) -> bool:
        """Whether to hand a neighbour on: 15 a minute of one host, and of hosts that are not ``near`` 20 a second.

        Those that are near, in a /24 of ours, are few: whoever forges all of them silences none. Of a host 4 ports are
        remembered.
        """
        if not self._heard_each.allow(neighbour[0], now) or not (near or self._heard.allow(_HEARD_BEYOND, now)):
            return False
        if now - self._known.pop(neighbour, float("-inf")) > _KNOWN_FOR:
            self.soon(now)
        self._known[neighbour] = now
        same_host = [known for known in self._known if known[0] == neighbour[0]]
        if len(same_host) > _PORTS_EACH:
            del self._known[same_host[0]]
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return True

    def wait(self, now: float) -> float:
        """Seconds until ``due``."""
        return max(0.0, self._next - now)


class Lan:
    """Announces one swarm on every interface, and hears others: a source of addresses.

    Interfaces come and go, and their links too: the sockets are opened anew whenever there are others, or one could not
    be opened, and who came is told at once.

    Args:
        info_hash: of the swarm, 20 bytes.
        ports: our UDP port by address family, 4 and 6; a family that is missing is not used.
        clock: monotonic seconds.
        interfaces: those to use; a function, since they come and go. ``all_interfaces`` but in tests.
    """

    name = "LAN"
    limits: Sequence[AddressLimits] = (NEIGHBOURS, BEYOND)

    def __init__(
        self,
        info_hash: bytes,
        ports: dict[int, int],
        *,
        clock: Callable[[], float],
        rng: random.Random,
        interfaces: Callable[[], Iterable[int]] | None = None,
        interval: float = _INTERVAL,
    ) -> None:
        self._info_hash = info_hash
        self._ports = ports
        self._clock = clock
        self._schedule = LanSchedule(rng, clock(), interval)
        self._cookie = f"{rng.getrandbits(64):016x}"
        self._interfaces = interfaces or all_interfaces
        self._changed = asyncio.Event()
        self._near: frozenset[str] = frozenset()

    def address_changed(self) -> None:
        """Our address changed: announce it again, as soon as the pauses allow."""
        self._schedule.soon(self._clock())
        self._changed.set()

    def announce(self, info: PatchInfo | None) -> None:
        """Nothing of it is said in the LAN."""

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """Nothing of it is said in the LAN."""

    async def look(self) -> Found:
        """Who is heard in 5 seconds; that we are there is said, as it is whenever a node listens."""
        heard = _Collected()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await self.run(heard)
        return Found(NEIGHBOURS, heard.addresses)

    async def run(self, listener: Listener) -> None:
        """Announce and hear until cancelled; without multicast there is nobody to hear, and that is all."""
        while self._ports:
            with contextlib.ExitStack() as cleanup:
                await self._use(self._links(), cleanup, listener)

    async def _use(self, links: frozenset[Link], cleanup: contextlib.ExitStack, listener: Listener) -> None:
        """Announce and hear on these until there are others."""
        loop, until = asyncio.get_running_loop(), math.inf
        self._near = frozenset(subnet_of((link.host, 0)) for link in links if link.family == 4)
        sockets = []
        for family in self._ports:
            indices = sorted(link.index for link in links if link.family == family)
            for some in (indices[start : start + _MEMBERSHIPS] for start in range(0, len(indices), _MEMBERSHIPS)):
                opened = open_group(family, some)
                if opened is None:
                    until = self._clock() + _TRY_AGAIN
                    continue
                cleanup.callback(opened.close)
                loop.add_reader(opened, self._read, opened, listener)
                cleanup.callback(loop.remove_reader, opened)
                sockets.append((family, opened, some))
        while True:
            self._changed.clear()
            # Where there is no link yet nothing is said, and whoever comes is told at once.
            if sockets and self._schedule.due(self._clock()):
                for family, opened, some in sockets:
                    self._announce(family, opened, some)
            pause = max(0.05, self._schedule.wait(self._clock())) if sockets else _LOOK_AT_LINKS
            await wait_at_most(self._changed, min(pause, _LOOK_AT_LINKS))
            now = self._links()
            if now != links:
                if not now <= links:
                    self._schedule.soon(self._clock())
                return
            if self._clock() >= until:
                return

    def _links(self) -> frozenset[Link]:
        """Where something can be said now: an interface whose link is up, and our address there."""
        return frozenset(
            Link(family, index, host)
            for index in self._interfaces()
            for family in self._ports
            if (host := address_on(family, index)) is not None
        )

    def _announce(self, family: int, opened: socket.socket, interfaces: Iterable[int]) -> None:
        packet = encode_search(self._info_hash, self._ports[family], self._cookie, family)
        for index in interfaces:
            try:
                choose(opened, family, index)
                opened.sendto(packet, GROUPS[family])
            except OSError as error:
                _log.debug("no multicast over interface %d: %s", index, error.strerror)

    def _read(self, opened: socket.socket, listener: Listener) -> None:
        for _ in range(_READS_PER_WAKE_UP):
            try:
                data, source = opened.recvfrom(_LARGEST + 1)
            except OSError:
                return
            port = decode_search(data, self._info_hash, self._cookie)
            if port is None:
                continue
            neighbour = (str(source[0]), port)
            near = subnet_of(neighbour) in self._near
            if not is_dialable(neighbour) or not (near or is_lan(neighbour) or is_ipv6(neighbour[0])):
                continue
            if self._schedule.heard(neighbour, self._clock(), near=near):
                listener.hear(Found(NEIGHBOURS if near else BEYOND, (neighbour,)))
                self._changed.set()


class _Collected:
    def __init__(self) -> None:
        self.addresses: list[Address] = []

    def hear(self, found: Found) -> None:
        self.addresses += found.addresses


def lan_source(around: Surroundings) -> Lan | None:
    """Unless the settings or the namespace forbid it; a node that is bound to one address has no LAN."""
    host = around.host
    if not host.namespace.meets:
        return None
    ports = host.ports if around.settings.lan else {}
    interval = _METERED if around.settings.metered else _INTERVAL
    return Lan(namespace_hash(host.namespace), ports, clock=around.clock, rng=around.rng, interval=interval)
