"""Who holds the places of a device's connections: idlers from a few networks keep no honest peer from its fetch.

The real endpoint, admission and exchange, on virtual time, at addresses of many networks.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.transfer import fetch_release, wire
from pypatcher.transport import Connection, Endpoint
from tests.support.node_fakes import run_alone
from tests.support.siege import MINUTE
from tests.support.switch import Switch
from tests.support.transport import ALPN, OWNER_KEY, Kept, local_release, make_release

HOLDER: Address = ("20.1.1.1", 6881)
TRIES = 12
STRANGERS = [(f"30.0.{network}.{host}", 4000 + host) for network in range(4) for host in range(1, 4)]
NEIGHBOURS = [(f"192.168.1.{host}", port) for host in (7, 8) for port in range(4000, 4008)]


async def idle(endpoint: Endpoint) -> None:
    """Hold a place as long as it goes, again and again."""
    while True:
        try:
            connection = await endpoint.connect(HOLDER, node_id=None, alpn=ALPN)
        except PeerError:
            await asyncio.sleep(0.2)
            continue
        await ask_wrongly(connection)


async def ask_wrongly(connection: Connection) -> None:
    """A wrong request late, another one later, each just in time; then silence."""
    with contextlib.suppress(PeerError):
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(14.0):
                    await connection.wait_closed()
            stream = await connection.open_stream()
            await stream.write(bytes(wire.REQUEST_SIZE))
            await stream.finish()
    await connection.wait_closed()


async def honest_tries(switch: Switch, sources: list[Address], body: bytes) -> tuple[int, float]:
    """How many of them got the release, and the longest that one of these took."""
    loop, good, longest = asyncio.get_running_loop(), 0, 0.0
    for source in sources:
        client, began, got = await switch.endpoint(source), loop.time(), Kept()
        try:
            connection = await client.connect(HOLDER, node_id=None, alpn=ALPN)
            await fetch_release(
                connection, got, owner=OWNER_KEY, expect=None, now=lambda: MINUTE * 60.0, clock=loop.time
            )
        except PeerError as error:
            print(f"{source}: {error}")
        good += bytes(got) == body
        longest = max(longest, loop.time() - began)
        await client.close()
        await asyncio.sleep(0.5)
    return good, longest


@pytest.mark.parametrize(
    ("attackers", "honest"),
    [
        (STRANGERS, [(f"40.{number}.0.1", 5000) for number in range(TRIES)]),
        (NEIGHBOURS, [(f"40.{number}.0.1", 5000) for number in range(TRIES)]),
        (NEIGHBOURS, [(f"192.168.1.{100 + number}", 5000) for number in range(TRIES)]),
    ],
    ids=["12 strangers in 4 networks", "2 neighbours, for strangers", "2 neighbours, for neighbours"],
)
def test_idlers_keep_no_honest_peer_from_its_fetch(
    tmp_path: Path, attackers: list[Address], honest: list[Address]
) -> None:
    info, body = make_release(tmp_path, 20_000)

    async def attack() -> tuple[int, float]:
        async with Switch() as switch, asyncio.TaskGroup() as idlers:
            await switch.holder(HOLDER, local_release(info, tmp_path / "release"), daily_factor=1000)
            tasks = [
                idlers.create_task(idle(endpoint))
                for endpoint in [await switch.endpoint(address) for address in attackers]
                for _ in range(4)
            ]
            await asyncio.sleep(4.0)
            result = await honest_tries(switch, honest, body)
            for task in tasks:
                task.cancel()
            return result

    good, longest = run_alone(attack())
    print(f"{good} of {TRIES} honest fetches, {longest:.1f} s at most")
    assert good == TRIES


def test_who_never_asks_rightly_has_one_deadline_for_all(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, 20_000)

    async def attack() -> float:
        async with Switch() as switch:
            await switch.holder(HOLDER, local_release(info, tmp_path / "release"))
            endpoint, loop = await switch.endpoint(STRANGERS[0]), asyncio.get_running_loop()
            connection = await endpoint.connect(HOLDER, node_id=None, alpn=ALPN)
            began = loop.time()
            await ask_wrongly(connection)
            return loop.time() - began

    assert run_alone(attack()) < 16.0


def test_who_loses_its_place_while_it_thinks_to_have_it_is_told(tmp_path: Path) -> None:
    """A hundred dial at once: half of them were forgotten without a word, and asked nobody else for ten seconds."""
    info, _ = make_release(tmp_path, 20_000)

    async def dial(endpoint: Endpoint) -> Connection | None:
        try:
            return await endpoint.connect(HOLDER, node_id=None, alpn=ALPN)
        except PeerBusyError:
            return None

    async def crowd() -> int:
        async with Switch() as switch:
            await switch.holder(HOLDER, local_release(info, tmp_path / "release"))
            endpoints = [await switch.endpoint((f"40.{number}.0.1", 5000)) for number in range(100)]
            connections = await asyncio.gather(*map(dial, endpoints))
            await asyncio.sleep(1.0)
            return sum(each is not None and not each.is_closed for each in connections)

    assert run_alone(crowd()) == 48, "as many as there are places from outside the LAN"
