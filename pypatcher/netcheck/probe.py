"""What the network here lets through: the findings of ``pypatcher netcheck``, from packets that were really sent.

Opens a place in the network as a node does, for less than a minute, and looks. What the findings mean is said in
``node.verdicts``. Nothing is changed but a port mapping, which is given back.
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
from pypatcher.dht import Answered
from pypatcher.dht.resolve import Resolver
from pypatcher.discovery import Lan, Namespace, namespace_hash
from pypatcher.nat.address_hints import own_addresses, ports_beyond_loopback, usable_hints
from pypatcher.nat.portmap import default_gateway
from pypatcher.node.cache import Memory
from pypatcher.node.network import Network, open_network
from pypatcher.settings import Settings

__all__ = ["Findings", "check_network", "meet_fleet"]

_MOST_PEERS = 30
_VOTES_PATIENCE = 6.0
_LAN_PATIENCE = 5.0


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
    async with open_network(namespace, settings, Memory()) as network:
        peers: set[Address] = set()
        reached: set[Address] = set()
        try:
            names, (multicast, in_lan), _, _ = await asyncio.gather(
                _names(settings), _listen(network, settings), _join(network, seconds), _ask_router(network, settings)
            )
            if fleet:
                peers, reached = await meet_fleet(network, in_lan)
            await _votes(network)
            neighbours = set(filter(is_lan, reached))
            mapping = None if network.ports is None else network.ports.mapping
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
                refusals={} if network.ports is None or mapping is not None else dict(network.ports.refusals),
                opened=None if opened is None else format_address(opened.address),
                opened_refusal="" if firewall is None else "; ".join(firewall.refusals.values()),
                multicast=multicast,
                neighbours=len(neighbours),
                heard=len(peers) if fleet else None,
                reached=len(reached) if fleet else None,
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


async def meet_fleet(network: Network, in_lan: set[Address]) -> tuple[set[Address], set[Address]]:
    """Which addresses of the fleet are known to LAN, records and swarm, and which of them prove to be of it."""
    heard = list(in_lan)
    if network.dht.nodes():
        heard += [candidate.address for candidate in await network.look()]
        heard += await network.dht.get_peers(namespace_hash(network.namespace))
    # Neighbours who announced themselves a moment ago keep silent for a minute, but have knocked at us.
    near = filter(is_lan, network.dht.nodes())
    ours = [*network.own_addresses(), *network.endpoint.addresses]
    peers = list(dict.fromkeys(usable_hints([*near, *heard], ours)))[:_MOST_PEERS]
    answers = await asyncio.gather(*(network.dht.knock(peer, tries=2) for peer in peers))
    proven = {peer for peer, answered in zip(peers, answers, strict=True) if answered is Answered.MEMBER}
    return proven | ({*peers} & {*heard}), proven


async def _listen(network: Network, settings: Settings) -> tuple[bool | None, set[Address]]:
    """Whether multicast of ours comes back to us, the least that the LAN discovery needs, and who else is there."""
    ports = ports_beyond_loopback(network.endpoint.addresses)
    if not settings.lan or not ports:
        return None, set()
    echoes: set[Address] = set()
    neighbours: set[Address] = set()
    # Two that are alone in a swarm of their own hear each other, and nobody else.
    alone = os.urandom(20)
    swarms = ((alone, echoes), (alone, echoes), (namespace_hash(network.namespace), neighbours))
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAN_PATIENCE), asyncio.TaskGroup() as tasks:
            for info_hash, found in swarms:
                lan = Lan(info_hash, ports, found=found.add, clock=time.monotonic, rng=random.Random())  # noqa: S311
                tasks.create_task(lan.run())
    return bool(echoes), neighbours
