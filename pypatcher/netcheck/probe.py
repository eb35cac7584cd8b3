"""What the network here lets through: the findings of ``pypatcher netcheck``, from packets that were really sent.

Opens a node's sockets for less than a minute, and looks. Nothing is changed but a port mapping, which is given back.
Not here: what the findings mean (``advice``).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pypatcher.addresses import Address, format_address, is_lan, is_literal
from pypatcher.dht.resolve import Resolver
from pypatcher.discovery import Namespace
from pypatcher.discovery.announcement import usable_hints
from pypatcher.discovery.census import Census
from pypatcher.discovery.sources import Surroundings, open_sources
from pypatcher.discovery.sources.lan import Lan
from pypatcher.nat.address_hints import own_addresses
from pypatcher.nat.portmap import default_gateway
from pypatcher.node.cache import Memory
from pypatcher.node.network import Network, open_network
from pypatcher.settings import Settings

__all__ = ["Findings", "check_network", "hear_fleet", "knock_at_fleet"]

_MOST_PEERS = 30
_VOTES_PATIENCE = 6.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen.

    Attributes:
        local: our own addresses that others could dial, without what routers make of them.
        names: whether the DHT's entry points have addresses: name service works, or none was needed.
        dht_nodes: how many DHT nodes answered, by family, but for neighbours of the fleet.
        outside: where DHT nodes see us.
        port_varies: whether they see different ports; None if too few told.
        router: the IPv4 default gateway.
        mapped: the port that the router opened, or None.
        mapped_by: PCP, NAT-PMP or UPnP.
        refusals: why a protocol opened none.
        opened: our IPv6 address and port that the router's firewall lets strangers in to, by PCP, or None.
        opened_refusal: why it does not; empty if it was not asked.
        multicast: whether this device can send and hear multicast; None if it is not to be used.
        neighbours: how many of the fleet answered from this LAN.
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
    multicast: bool | None = None
    neighbours: int = 0
    heard: int | None = None
    reached: int | None = None


async def check_network(namespace: Namespace, settings: Settings, *, seconds: float, fleet: bool) -> Findings:
    """Look, for about ``seconds``; ``fleet``: also for the nodes of the namespace.

    Raises:
        SettingError: a socket cannot be bound where the settings say.
    """
    async with open_network(namespace, settings, Memory(), patience=seconds) as network:
        census = Census(time.monotonic)
        try:
            names, multicast, _, _, _ = await asyncio.gather(
                _names(settings),
                _hears_itself(network, settings),
                network.joined(),
                _ask_router(network, settings),
                hear_fleet(network, settings, census) if fleet else asyncio.sleep(0),
            )
            heard = await knock_at_fleet(network, census) if fleet else None
            await _votes(network)
            neighbours = set(filter(is_lan, census.proven))
            mapping = None if network.port_mapper is None else network.port_mapper.mapping
            firewall = network.firewall
            opened = None if firewall is None else firewall.mapping
            return Findings(
                local=tuple(map(format_address, own_addresses(network.endpoint.addresses, ()))),
                names=names,
                dht_nodes={kind: len({*node.nodes()} - neighbours) for kind, node in network.dht.by_family.items()},
                outside=tuple(map(format_address, network.dht.external_addresses)),
                port_varies=network.dht.port_varies,
                router=default_gateway(),
                mapped=None if mapping is None else format_address(mapping.address),
                mapped_by=None if mapping is None else mapping.protocol,
                refusals={}
                if network.port_mapper is None or mapping is not None
                else dict(network.port_mapper.refusals),
                opened=None if opened is None else format_address(opened.address),
                opened_refusal="" if firewall is None else "; ".join(firewall.refusals.values()),
                multicast=multicast,
                neighbours=len(neighbours),
                heard=heard,
                reached=len(census.proven) if fleet else None,
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


async def hear_fleet(network: Network, settings: Settings, census: Census) -> None:
    """Ask every source of addresses once who of the fleet is there, and count what it says."""
    around = Surroundings(network, settings, lambda _: None, random.Random(), time.monotonic)  # noqa: S311 - jitter
    found = await asyncio.gather(*(source.look() for source in open_sources(around)))
    for each in found:
        census.hear(each, _own(network))


async def knock_at_fleet(network: Network, census: Census) -> int:
    """Who of those that were heard of, 30 at most, proves to be of the fleet; returns how many were asked or did."""
    # Neighbours who announced themselves a moment ago keep silent for a minute, but have knocked at us.
    near = usable_hints(filter(is_lan, network.dht.nodes()), _own(network))
    peers = list(dict.fromkeys([*near, *census.heard]))[:_MOST_PEERS]
    answers = await asyncio.gather(*(network.knock(peer, tries=2) for peer in peers))
    for peer, answered in zip(peers, answers, strict=True):
        if answered.is_member:
            census.prove(peer)
    return len({*census.proven} | ({*peers} & {*census.heard}))


def _own(network: Network) -> list[Address]:
    return [*network.own_addresses(), *network.endpoint.addresses]


async def _hears_itself(network: Network, settings: Settings) -> bool | None:
    """Whether multicast of ours comes back to us: the least that the LAN discovery needs."""
    if not settings.lan or not network.ports:
        return None
    # Two that are alone in a swarm of their own hear each other, and nobody else.
    alone, clock = os.urandom(20), time.monotonic
    pair = [Lan(alone, network.ports, clock=clock, rng=random.Random()) for _ in range(2)]  # noqa: S311 - jitter
    return any(found.addresses for found in await asyncio.gather(*(lan.look() for lan in pair)))
