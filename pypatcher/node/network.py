"""A place in the network: the sockets, the DHT node and the tracker of one namespace, opened and closed together.

What a node and the command ``fetch`` have in common. Nothing here knows of a program or of files.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pypatcher.addresses import Address, family, is_ipv6
from pypatcher.artifact import PatchInfo
from pypatcher.dht import Dht, DhtNode
from pypatcher.discovery import Namespace, Published, Tracker
from pypatcher.discovery.candidates import Candidate
from pypatcher.keys import KeyPair
from pypatcher.nat.address_hints import own_addresses, ports_beyond_loopback, usable_hints
from pypatcher.nat.portmap import PortMapper, default_gateway
from pypatcher.node.cache import Memory
from pypatcher.settings import Settings
from pypatcher.transfer import StallRule, fetch_from, fetch_release
from pypatcher.transport import Connection, Endpoint

__all__ = ["Network", "open_network"]

_JOIN_PATIENCE = 60.0
_ROUTER_PATIENCE = 5.0  # nodes that keep what was said first should not keep a port that is not open


@dataclass(frozen=True, slots=True)
class Network:
    """Made by ``open_network``.

    Attributes:
        identity: the node's key pair, made anew for this network and stored nowhere.
        stall: how slow a peer may be that gives us a release.
        ports: asks the router for our IPv4 port while it runs; None where only this machine reaches us anyway.
        firewall: asks the router to let strangers in to our IPv6 port, likewise.
        on_minutes_ahead: told of a peer that we fetched from whose clock is so much ahead of ours.
    """

    namespace: Namespace
    identity: KeyPair
    endpoint: Endpoint
    dht: Dht
    tracker: Tracker
    stall: StallRule
    ports: PortMapper | None = None
    firewall: PortMapper | None = None
    on_minutes_ahead: Callable[[Address, int], None] = lambda _peer, _minutes: None

    @property
    def node_id(self) -> str:
        """64 hex digits."""
        return self.identity.public.hex()

    def own_addresses(self) -> tuple[Address, ...]:
        """Where others may reach us, as far as we know."""
        mapped = self.mapped_address()
        seen = self.dht.external_addresses
        if mapped is not None:
            # One port a host: whoever tries a wrong one first leaves the whole host alone for minutes.
            seen = (mapped, *(each for each in seen if is_ipv6(each[0])))
        elif self.dht.port_varies:
            # Behind such a router the port that one node sees is open to that node alone.
            seen = tuple(each for each in seen if is_ipv6(each[0]))
        return own_addresses(self.endpoint.addresses, seen)

    @property
    def mappers(self) -> list[PortMapper]:
        """Who asks routers for ports: ``ports`` and ``firewall``, as far as there are any."""
        return [mapper for mapper in (self.ports, self.firewall) if mapper is not None]

    def mapped_address(self) -> Address | None:
        """Where the router opened our port, if that is in the Internet and nobody sees us elsewhere."""
        mapping = None if self.ports is None else self.ports.mapping
        if mapping is None or not mapping.is_public:
            return None
        seen = [host for host, _ in self.dht.external_addresses if not is_ipv6(host)]
        return mapping.address if not seen or mapping.address[0] in seen else None

    def mapped_port(self) -> int | None:
        """The port under which to be announced, if the one that others see is not the one that is open."""
        mapped = self.mapped_address()
        return None if mapped is None else mapped[1]

    async def joined(self) -> None:
        """Wait until the DHT has somebody to ask, a minute at most: a device may start before its network does.

        And until the router, if it is asked, has opened a port or let us wait for 5 s.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_JOIN_PATIENCE):
                await self.dht.joined()
        await asyncio.gather(*(mapper.settled(_ROUTER_PATIENCE) for mapper in self.mappers))

    async def look(self) -> list[Candidate]:
        """Who is heard in the minute slots, one candidate an address that is worth a packet."""
        await self.joined()
        heard = await self.tracker.look()
        ours = self.own_addresses()
        return [
            Candidate(each.info, each.node_id, address, f"slot of minute {each.minute}")
            for each in heard
            for address in usable_hints(each.addresses, ours)
        ]

    async def publish(self, info: PatchInfo) -> Published:
        """Say that we have ``info``; see ``Tracker.publish``."""
        await self.joined()
        return await self.tracker.publish(info, self.own_addresses())

    async def fetch(
        self,
        address: Address,
        node_id: bytes | None,
        expect: PatchInfo | None,
        write: Callable[[bytes], None],
        progress: Callable[[int, int], None],
    ) -> PatchInfo:
        """Fetch a release from the node at ``address``, ``node_id`` or any; see ``transport.fetch_from``.

        Raises:
            PeerError, ArtifactError: the peer did not deliver what it announced.
            OSError: whatever ``write`` raises.
        """
        return await fetch_from(
            self.endpoint,
            address,
            node_id=node_id,
            alpn=self.namespace.alpn,
            owner=self.namespace.owner,
            expect=expect,
            write=write,
            on_progress=progress,
            stall=self.stall,
            on_minutes_ahead=lambda minutes: self.on_minutes_ahead(address, minutes),
        )

    async def fetch_over(
        self,
        connection: Connection,
        expect: PatchInfo,
        write: Callable[[bytes], None],
        progress: Callable[[int, int], None],
    ) -> PatchInfo:
        """Fetch ``expect`` over a connection that the peer dialed.

        Raises:
            PeerError, ArtifactError: the peer did not deliver what it offered.
            OSError: whatever ``write`` raises.
        """
        return await fetch_release(
            connection,
            owner=self.namespace.owner,
            expect=expect,
            write=write,
            on_progress=progress,
            stall=self.stall,
            on_minutes_ahead=lambda minutes: self.on_minutes_ahead(connection.peer_address, minutes),
        )


@asynccontextmanager
async def open_network(
    namespace: Namespace,
    settings: Settings,
    memory: Memory,
    *,
    stall: StallRule | None = None,
    on_minutes_ahead: Callable[[Address, int], None] = lambda _peer, _minutes: None,
) -> AsyncIterator[Network]:
    """Bind the sockets and join the DHT in the background; everything is closed at the end.

    Raises:
        SettingError: a socket cannot be bound where the settings say.
    """
    identity = KeyPair.generate()
    dht: Dht | None = None

    def on_krpc(data: bytes, source: Address) -> None:
        if dht is not None:
            dht.datagram_received(data, source)

    endpoint = await Endpoint.open(identity, settings.bind, on_krpc=on_krpc, preferred_port=memory.port)
    try:
        dht = Dht(
            [
                DhtNode(
                    endpoint.send_krpc,
                    family=family(address),
                    bootstrap=settings.bootstrap,
                    known_nodes=memory.dht_nodes,
                    secret=namespace.topic_hash,
                )
                for address in endpoint.addresses
            ]
        )
        await dht.start()
        try:
            tracker = Tracker(dht, namespace, identity, now=time.time)
            ports, firewall = (port_mapper(endpoint.addresses, kind) for kind in (4, 6))
            yield Network(
                namespace, identity, endpoint, dht, tracker, stall or StallRule(), ports, firewall, on_minutes_ahead
            )
        finally:
            await dht.stop()
    finally:
        await endpoint.close()


def port_mapper(bound: Sequence[Address], kind: int) -> PortMapper | None:
    """Who asks the router for our port of that family, 4 or 6; None on loopback and without that family."""
    port = ports_beyond_loopback(bound).get(kind)
    return None if port is None else PortMapper(port, gateway=lambda: default_gateway(kind))
