"""Real libtorrent DHT nodes, one loopback address each, for interop tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import libtorrent

from pypatcher.addresses import Address
from pypatcher.dht import UdpDht

__all__ = ["PORT", "Swarm", "libtorrent_swarm"]

PORT = 6881


class Swarm:
    """Sessions that know each other."""

    def __init__(self, sessions: list[Any], addresses: list[Address]) -> None:
        self.sessions = sessions
        self.addresses = addresses

    async def alert(self, session: Any, kind: type[Any], wanted: Callable[[Any], bool], seconds: float = 10.0) -> Any:
        """The first alert of that kind that ``wanted`` accepts."""
        async with asyncio.timeout(seconds):
            while True:
                for alert in session.pop_alerts():
                    if isinstance(alert, kind) and wanted(alert):
                        return alert
                await asyncio.sleep(0.02)


def _session(host: str) -> Any:
    return libtorrent.session(
        {
            "listen_interfaces": f"[{host}]:0" if ":" in host else f"{host}:{PORT}",
            "outgoing_interfaces": "" if ":" in host else host,
            "enable_dht": True,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "dht_bootstrap_nodes": "",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_upload_rate_limit": 10_000_000,
            "dht_block_ratelimit": 1_000_000,
            "alert_mask": libtorrent.alert.category_t.dht_notification
            | libtorrent.alert.category_t.dht_operation_notification,
        }
    )


async def _port(session: Any) -> int:
    async with asyncio.timeout(10):
        while not session.listen_port():
            await asyncio.sleep(0.02)
    return int(session.listen_port())


async def _until_each_knows(sessions: list[Any], enough: int) -> None:
    waiting = list(sessions)
    async with asyncio.timeout(20):
        while waiting:
            for session in waiting:
                session.post_dht_stats()
            await asyncio.sleep(0.1)
            waiting = [session for session in waiting if _known_nodes(session) < enough]


def _known_nodes(session: Any) -> int:
    tables = [alert.routing_table for alert in session.pop_alerts() if isinstance(alert, libtorrent.dht_stats_alert)]
    return sum(bucket["num_nodes"] for bucket in tables[-1]) if tables else 0


@asynccontextmanager
async def libtorrent_swarm(count: int, network: str, *, known: UdpDht | None = None) -> AsyncIterator[Swarm]:
    """``count`` nodes at ``network``.1, .2 and so on, such as 127.90.0, or all at the IPv6 address ``network``.

    They are meshed, or told of ``known`` alone.
    """
    hosts = [network if ":" in network else f"{network}.{number}" for number in range(1, count + 1)]
    sessions = [_session(host) for host in hosts]
    try:
        addresses = [(host, await _port(session)) for host, session in zip(hosts, sessions, strict=True)]
        for session in sessions:
            for address in addresses if known is None else [known.address]:
                session.add_dht_node(address)
        await _until_each_knows(sessions, (count - 1) * 2 // 3 if known is None else 1)
        yield Swarm(sessions, addresses)
    finally:
        while sessions:
            sessions.pop().pause()
