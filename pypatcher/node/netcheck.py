"""What the network here lets through: the findings of ``pypatcher netcheck``, from packets that were really sent.

Opens a place in the network as a node does, for less than a minute, and looks. What the findings mean is said in
``node.verdicts``. Nothing is changed but a port mapping, which is given back.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pypatcher.addresses import Address, format_address, is_literal
from pypatcher.dht.resolve import Resolver
from pypatcher.discovery import Namespace
from pypatcher.discovery.swarm import namespace_hash
from pypatcher.node.cache import Memory
from pypatcher.node.hints import own_addresses, usable_hints
from pypatcher.node.network import Network, open_network
from pypatcher.node.settings import Settings
from pypatcher.transport.portmap import default_gateway

__all__ = ["Findings", "check_network"]

_MOST_PEERS = 30
_VOTES_PATIENCE = 6.0
_MULTICAST = ("239.192.152.143", 0)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen.

    Attributes:
        local: our own addresses that others could dial, without what routers make of them.
        names: whether the DHT's entry points have addresses: name service works, or none was needed.
        dht_nodes: how many DHT nodes answered, by family.
        outside: where DHT nodes see us.
        port_varies: whether they see different ports; None if too few told.
        router: the IPv4 default gateway.
        mapped: the port that the router opened, or None.
        mapped_by: PCP, NAT-PMP or UPnP.
        refusals: why a protocol opened none.
        opened: our IPv6 address and port that the router's firewall lets strangers in to, by PCP, or None.
        opened_refusal: why it does not; empty if it was not asked.
        multicast: whether this device can send and hear multicast.
        heard: how many addresses of the fleet were heard of; None if no owner was given.
        reached: how many of them answered.
    """

    local: tuple[str, ...] = ()
    names: bool = True
    dht_nodes: Mapping[int, int] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    port_varies: bool | None = None
    router: str | None = None
    mapped: str | None = None
    mapped_by: str | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)
    opened: str | None = None
    opened_refusal: str = ""
    multicast: bool = False
    heard: int | None = None
    reached: int | None = None


async def check_network(namespace: Namespace, settings: Settings, *, seconds: float, fleet: bool) -> Findings:
    """Look, for about ``seconds``; ``fleet``: also for the nodes of the namespace.

    Raises:
        SettingError: a socket cannot be bound where the settings say.
    """
    async with open_network(namespace, settings, Memory()) as network:
        names, multicast, _, _ = await asyncio.gather(
            _names(settings), _multicast(), _join(network, seconds), _ask_router(network, settings)
        )
        peers = reached = None
        try:
            if fleet and network.dht.nodes():
                peers, reached = await _fleet(network)
            await _votes(network)
            mapping = None if network.ports is None else network.ports.mapping
            firewall = network.firewall
            opened = None if firewall is None else firewall.mapping
            return Findings(
                local=tuple(map(format_address, own_addresses(network.endpoint.addresses, ()))),
                names=names,
                dht_nodes={kind: len(node.nodes()) for kind, node in network.dht.by_family.items()},
                outside=tuple(map(format_address, network.dht.external_addresses)),
                port_varies=network.dht.port_varies,
                router=default_gateway(),
                mapped=None if mapping is None else format_address(mapping.address),
                mapped_by=None if mapping is None else mapping.protocol,
                refusals={} if network.ports is None or mapping is not None else dict(network.ports.refusals),
                opened=None if opened is None else format_address(opened.address),
                opened_refusal="" if firewall is None else "; ".join(firewall.refusals.values()),
                multicast=multicast,
                heard=peers,
                reached=reached,
            )
        finally:
            await asyncio.gather(*(mapper.give_back() for mapper in network.mappers))


async def _names(settings: Settings) -> bool:
    """Whether one of the entry points that are names has an address."""
    named = [entry for entry in settings.bootstrap if not is_literal(entry)]
    if not named or len(named) < len(settings.bootstrap):
        return True
    for kind in (4, 6):
        resolver = Resolver(kind)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                if any(await asyncio.gather(*(resolver.resolve(entry) for entry in named))):
                    return True
    return False


async def _join(network: Network, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await network.dht.joined()


async def _votes(network: Network) -> None:
    """Ask more nodes until enough have told where they see us, a few seconds at most."""
    if not network.dht.nodes():
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_VOTES_PATIENCE):
            while network.dht.port_varies is None:
                await network.dht.get_peers(network.namespace.topic_hash[:20])
                await asyncio.sleep(0.5)


async def _ask_router(network: Network, settings: Settings) -> None:
    if settings.port_mapping:
        await asyncio.gather(*(mapper.once() for mapper in network.mappers))


async def _fleet(network: Network) -> tuple[int, int]:
    """How many addresses of the fleet are known to records and swarm, and how many answer a ping."""
    heard = [candidate.address for candidate in await network.look()]
    heard += await network.dht.get_peers(namespace_hash(network.namespace))
    ours = [*network.own_addresses(), *network.endpoint.addresses]
    peers = list(dict.fromkeys(usable_hints(heard, ours)))[:_MOST_PEERS]
    answers = await asyncio.gather(*(network.dht.ping(peer) for peer in peers))
    return len(peers), sum(answers)


async def _multicast() -> bool:
    """Whether a multicast packet of ours comes back to us: the least that the LAN discovery needs."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.bind(("", 0))
            group: Address = (_MULTICAST[0], sock.getsockname()[1])
            request = struct.pack("4s4s", socket.inet_aton(group[0]), bytes(4))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            await loop.sock_sendto(sock, b"pypatcher netcheck", group)
            async with asyncio.timeout(1):
                return await loop.sock_recv(sock, 64) == b"pypatcher netcheck"
        except (OSError, TimeoutError):
            return False
