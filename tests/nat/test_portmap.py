"""A port is opened at a real miniupnpd by each protocol, and given back when the node stops."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nat.fleet import NEW, LabDevice, LabFleet, build_program
from tests.nat.lab import Lab, open_lab
from tests.nat.sites import Site, build_site
from tests.nat.upnp import log_of, mappings, pinholes, start_miniupnpd

_PROBE = """
import asyncio, json, sys
from pypatcher.nat.portmap import default_gateway
from pypatcher.nat.portmap.{module} import {name}

async def main():
    client = {name}(default_gateway())
    for _ in range(2):  # asked for, then renewed
        granted = await client.open(6881, 600)
    print(json.dumps([granted.host, granted.port, granted.seconds]), flush=True)
    sys.stdin.readline()
    await client.close(6881)
    print("closed", flush=True)

asyncio.run(main())
"""


# One ping of a stranger's, as of any DHT node; prints the number of bytes that came back.
_PING = """
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.settimeout(float(sys.argv[3]))
    sock.sendto(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", (sys.argv[1], int(sys.argv[2])))
    try:
        print(len(sock.recv(1500)))
    except TimeoutError:
        print(0)
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    with open_lab() as made:
        yield made


@pytest.fixture(scope="module")
def site(world: Lab) -> Site:
    return build_site(world, "upnp")


@pytest.mark.parametrize(("module", "name"), [("pcp", "PcpClient"), ("natpmp", "NatPmpClient"), ("upnp", "UpnpClient")])
def test_a_port_is_opened_renewed_and_given_back(world: Lab, site: Site, module: str, name: str) -> None:
    router, host = site.routers[0], site.hosts[0]
    command = [*world.enter(host.namespace), sys.executable, "-c", _PROBE.format(module=module, name=name)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as probe:
        assert probe.stdin is not None
        assert probe.stdout is not None
        outside, port, seconds = json.loads(probe.stdout.readline())
        assert (outside, port) == (site.address, 6881)
        assert 300 <= seconds <= 86400
        assert any("6881" in line and host.address in line for line in mappings(world, router))
        print(file=probe.stdin, flush=True)
        assert probe.stdout.readline() == "closed\n"
    assert mappings(world, router) == []


async def test_a_node_has_a_mapping_while_it_runs_and_none_after_it_stopped(world: Lab, site: Site) -> None:
    router = site.routers[0]
    fleet = LabFleet(world, build_program(world.folder), "", "mapping")
    device = await fleet.start(site.hosts[0], "device", NEW)
    try:
        assert await device.until(lambda it: 1.0 if it.event("node.started") else None, 20)
        await _until(lambda: bool(mappings(world, router)))
        assert site.hosts[0].address in mappings(world, router)[0]
    finally:
        await fleet.stop()
    assert mappings(world, router) == []


async def test_a_node_that_was_told_so_asks_for_no_port(world: Lab, site: Site) -> None:
    fleet = LabFleet(world, build_program(world.folder), "", "unmapped")
    device = await fleet.start(site.hosts[0], "device", NEW, PYPATCHER_PORTMAP="0")
    try:
        assert await device.until(LabDevice.runs_new, 20)
        assert await device.until(lambda it: 1.0 if it.event("node.started") else None, 20)
        await asyncio.sleep(2)
        assert mappings(world, site.routers[0]) == []
    finally:
        await fleet.stop()


def _ping(world: Lab, stranger: Site, host: str, port: int, patience: float) -> int:
    command = [sys.executable, "-c", _PING, host, str(port), str(patience)]
    return int(world.run(stranger.hosts[0].namespace, command))


async def test_an_ipv6_firewall_lets_strangers_in_only_while_a_node_runs(world: Lab) -> None:
    site, stranger = build_site(world, "ipv6 alone"), build_site(world, "public")
    router, host = site.routers[0], site.hosts[0].namespace
    address = f"2a01:20:1:{site.number:x}::2"
    # As routers announce themselves: by a link-local address.
    world.ip(router, "addr add fe80::1/64 dev lan0", "addr add 192.168.1.1/24 dev lan0")
    world.ip(host, "route replace ::/0 via fe80::1 dev eth0")
    start_miniupnpd(world, router, site.address, firewall=True)
    fleet = LabFleet(world, build_program(world.folder), "", "pinhole")
    # It may be up before the router answers; then the next question would come after a minute.
    await _until(lambda: "Listening for NAT-PMP/PCP" in log_of(world, router))
    device = await fleet.start(site.hosts[0], "device", NEW)
    try:
        assert await device.until(lambda it: 1.0 if it.event("port.mapped") else None, 30)
        mapped, started = device.event("port.mapped"), device.event("node.started")
        assert mapped is not None
        assert started is not None
        port = int(started["addresses"][0].rpartition(":")[2])
        assert (mapped["protocol"], mapped["address"]) == ("PCP", f"[{address}]:{port}")
        assert len(pinholes(world, router)) == 1
        assert f"dport {port} " in pinholes(world, router)[0]
        assert _ping(world, stranger, address, port, 10) > 20
        assert _ping(world, stranger, address, port + 1, 0.5) == 0
    finally:
        await fleet.stop()
    assert pinholes(world, router) == []


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.2)
