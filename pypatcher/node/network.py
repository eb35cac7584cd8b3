"""A place in the network: the sockets and the DHT node of one namespace, opened and closed together.

What a node, the command ``fetch`` and ``netcheck`` have in common. Nothing here knows of a program, of files or of how
a release travels.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pypatcher.addresses import Address, family, is_ipv6
from pypatcher.dht import Answered, Dht, DhtNode
from pypatcher.discovery import Namespace
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.nat.address_hints import own_addresses, ports_everywhere
from pypatcher.nat.portmap import PortMapper, default_gateway
from pypatcher.node.cache import Memory
from pypatcher.settings import Settings
from pypatcher.transport import Endpoint

__all__ = ["Network", "open_desk", "open_network"]

_ROUTER_PATIENCE = 5.0  # nodes that keep what was said first should not keep a port that is not open


@dataclass(frozen=True, slots=True)
class Network:
    """Made by ``open_network``.

    Attributes:
        identity: the node's key pair, made anew for this network and stored nowhere.
        port_mapper: asks the router for our IPv4 port while it runs; None where only this machine reaches us anyway.
        firewall: asks the router to let strangers in to our IPv6 port, likewise.
        patience: seconds at most to wait for the first DHT node: a device may start before its network does.
    """

    namespace: Namespace
    identity: KeyPair
    endpoint: Endpoint
    dht: Dht
    port_mapper: PortMapper | None = None
    firewall: PortMapper | None = None
    patience: float = 60.0

    @property
    def node_id(self) -> str:
        """64 hex digits."""
        return self.identity.public.hex()

    @property
    def ports(self) -> dict[int, int]:
        """Our UDP port by family, 4 and 6, where somebody beyond this machine can reach it."""
        return ports_everywhere(self.endpoint.addresses)

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
        """Who asks routers for ports: ``port_mapper`` and ``firewall``, as far as there are any."""
        return [mapper for mapper in (self.port_mapper, self.firewall) if mapper is not None]

    def mapped_address(self) -> Address | None:
        """Where the router opened our port, if that is in the Internet and nobody sees us elsewhere."""
        mapping = None if self.port_mapper is None else self.port_mapper.mapping
        if mapping is None:
            return None
        seen = [host for host, _ in self.dht.external_addresses if not is_ipv6(host)]
        if mapping.is_somewhere:
            return (seen[0], mapping.address[1]) if seen else None
        if not mapping.is_public:
            return None
        return mapping.address if not seen or mapping.address[0] in seen else None

    def mapped_port(self) -> int | None:
        """The port under which to be announced, if the one that others see is not the one that is open."""
        mapped = self.mapped_address()
        return None if mapped is None else mapped[1]

    async def joined(self) -> None:
        """Wait until the DHT has somebody to ask, and the router, if it is asked, has opened a port or 5 s are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                await self.dht.joined()
        await asyncio.gather(*(mapper.settled(_ROUTER_PATIENCE) for mapper in self.mappers))

    async def knock(self, address: Address, *, tries: int) -> Answered:
        """Who answers there, by at most ``tries`` packets; see ``Dht.knock``."""
        return await self.dht.knock(address, tries=tries)


@asynccontextmanager
async def open_network(
    namespace: Namespace, settings: Settings, memory: Memory, *, patience: float = 60.0
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
                    secret=namespace.topic_hash,
                    read_only=settings.metered,
                )
                for address in endpoint.addresses
            ]
        )
        await dht.start(memory.dht_nodes)
        try:
            ports, firewall = (port_mapper(endpoint.addresses, kind) for kind in (4, 6))
            yield Network(namespace, identity, endpoint, dht, ports, firewall, patience)
        finally:
            await dht.stop()
    finally:
        await endpoint.close()


@asynccontextmanager
async def open_desk(owner: OwnerKey, settings: Settings) -> AsyncIterator[Dht]:
    """The DHT for who only reads and writes the owner's word, joined.

    Raises:
        SettingError: a socket cannot be bound where the settings say.
    """
    # The words of all targets lie in the same DHT; which namespace its node is in says nothing to anybody.
    async with open_network(Namespace.ours("desk", owner), settings, Memory()) as network:
        await network.joined()
        yield network.dht


def port_mapper(bound: Sequence[Address], kind: int) -> PortMapper | None:
    """Who asks the router for our port of that family, 4 or 6; None on loopback and without that family."""
    port = ports_everywhere(bound).get(kind)
    return None if port is None else PortMapper(port, gateway=lambda: default_gateway(kind))
