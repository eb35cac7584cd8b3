"""The DHT of the lab's Internet: 20 nodes at 20 addresses in networks of their own, half libtorrent's, half ours.

Run in a namespace of its own as ``python -m tests.nat.public_dht {"NAMESPACE": "ADDRESS", ...} MORE``, MORE of ours
beside them; prints one line of JSON with entry points once the nodes know each other, and ends with its input. A
libtorrent node binds its socket to the interface that has its address, so each has a namespace of its own, which the
thread visits to make it.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import libtorrent

from pypatcher.addresses import Address, format_address
from pypatcher.dht import UdpDht
from tests.nat.lab import Lab
from tests.support.libtorrent_nodes import Swarm, libtorrent_swarm

__all__ = ["start_dht"]

_OURS = range(1, 11)
_LIBTORRENT = 10
_PORT = 6881
_CLONE_NEWNET = 0x40000000


def start_dht(world: Lab, more: int = 0) -> str:
    """Build the sites, start the nodes, wait until they know somebody; returns ``PYPATCHER_BOOTSTRAP``.

    Args:
        more: nodes of ours beside, each with an IPv4 address in a /16 of its own.
    """
    ours = world.namespace("dht")
    line4, line6 = world.connect(ours, world.new_site())
    world.ip(world.internet, f"route add 20.200.0.0/16 via {line4}", f"route add 2a01:21::/48 via {line6}")
    for number in _OURS:
        host4, host6 = _hosts(number)
        world.ip(ours, f"addr add {host4}/32 dev wan0", f"addr add {host6}/128 dev wan0")
    wide = _wide(more)
    world.ip(world.internet, *(f"route add {host}/32 via {line4}" for host in wide))
    world.ip(ours, *(f"addr add {host}/32 dev wan0" for host in wide))
    others = {world.namespace(f"dht{number}"): "" for number in range(_LIBTORRENT)}
    for namespace in others:
        others[namespace], _ = world.connect(namespace, world.new_site())
    command = [*world.enter(ours), sys.executable, "-m", "tests.nat.public_dht", json.dumps(others), str(more)]
    process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the lab's DHT did not start: {' '.join(command)}")
    entries: list[str] = json.loads(line)["bootstrap"]
    return ",".join(entries)


def _hosts(number: int) -> tuple[str, str]:
    return f"20.200.{number}.1", f"2a01:21:0:{number:x}::1"


def _wide(count: int) -> list[str]:
    return [f"21.{number}.0.1" for number in range(count)]


async def _serve(others: Mapping[str, str], more: int) -> None:
    async with AsyncExitStack() as stack:
        ours: list[UdpDht] = []
        for number in _OURS:
            bind = [(host, _PORT) for host in _hosts(number)]
            entry = ours[0].addresses if ours else ()
            ours.append(await stack.enter_async_context(UdpDht(bind, bootstrap=entry)))
        swarms = []
        for namespace, address in others.items():
            with _visit(namespace):
                # A swarm of one, at the address NETWORK.1 as every site's.
                swarms.append(await stack.enter_async_context(libtorrent_swarm(1, address.rpartition(".")[0])))
        addresses = [dht.address for dht in ours] + [swarm.addresses[0] for swarm in swarms]
        await asyncio.gather(*(dht.joined() for dht in ours[1:]), *(_mesh(swarm, addresses) for swarm in swarms))
        wide = [
            await stack.enter_async_context(UdpDht((host, _PORT), bootstrap=ours[0].addresses)) for host in _wide(more)
        ]
        await asyncio.gather(*(dht.joined() for dht in wide))
        entries = [address for dht in ours[:3] for address in dht.addresses]
        print(json.dumps({"bootstrap": [format_address(address) for address in entries]}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _mesh(swarm: Swarm, addresses: Sequence[Address]) -> None:
    """Tell a libtorrent node of the others until it knows most; it forgets them when it learns its own address."""
    (session,) = swarm.sessions
    async with asyncio.timeout(30):
        while True:
            for address in addresses:
                session.add_dht_node(address)
            await asyncio.sleep(0.5)
            session.post_dht_stats()
            stats = await swarm.alert(session, libtorrent.dht_stats_alert, lambda _: True)
            if sum(bucket["num_nodes"] for bucket in stats.routing_table) >= len(addresses) // 2:
                return


@contextmanager
def _visit(namespace: str) -> Iterator[None]:
    """Be in another network namespace; threads that are made there stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", Path("/run/netns", namespace)))
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        yield
        if libc.setns(here, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot return to my own network")
    finally:
        os.close(here)
        os.close(there)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1]), int(sys.argv[2])))
