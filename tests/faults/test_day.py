"""What a device gives in a day: who asks and takes next to nothing uses up next to nothing of it.

The real endpoints and exchange, on virtual time, at addresses of many networks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pypatcher.addresses import Address
from pypatcher.errors import PeerError
from pypatcher.transfer import fetch_from, wire
from pypatcher.transport import quic
from tests.support.node_fakes import run_alone
from tests.support.siege import MINUTE
from tests.support.switch import Switch
from tests.support.transport import ALPN, OWNER_KEY, Kept, local_release, make_release

HOLDER: Address = ("20.1.1.1", 6881)
HOLDER_V6: Address = ("2a00:1::1", 6881)
SIZE = 500_000
WINDOW = 64
_TAKES_LITTLE: ContextVar[bool] = ContextVar("takes_little", default=False)


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that take little grant ``WINDOW`` bytes when they dial; those beside them grant what every node does."""
    begin = quic.RawKeyConnection.__init__

    def begin_with(connection: quic.RawKeyConnection, *arguments: Any, **options: Any) -> None:
        dials = options.get("original_destination_connection_id") is None
        window = WINDOW if dials and _TAKES_LITTLE.get() else quic.DEFAULT_WINDOW
        with mock.patch.object(quic, "DEFAULT_WINDOW", window):
            begin(connection, *arguments, **options)

    monkeypatch.setattr(quic.RawKeyConnection, "__init__", begin_with)


async def ask_and_leave(switch: Switch, source: Address, stay: float, holder: Address = HOLDER) -> None:
    """A valid request whose answer is taken 64 bytes long, and no byte more, for ``stay`` seconds."""
    endpoint = await switch.endpoint(source)
    takes_little = _TAKES_LITTLE.set(True)
    with contextlib.suppress(PeerError):
        connection = await endpoint.connect(holder, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
        await stream.finish()
        await asyncio.sleep(stay)
        connection.close()
        await asyncio.sleep(1.0)
    _TAKES_LITTLE.reset(takes_little)
    await endpoint.close()


async def fetch(switch: Switch, source: Address, holder: Address = HOLDER) -> bool:
    """Whether that address gets the release, in a way as a device does."""
    endpoint, got = await switch.endpoint(source), Kept()
    with contextlib.suppress(PeerError):
        await fetch_from(
            endpoint,
            holder,
            got,
            node_id=None,
            alpn=ALPN,
            owner=OWNER_KEY,
            expect=None,
            now=lambda: MINUTE * 60.0,
            clock=asyncio.get_running_loop().time,
        )
    await endpoint.close()
    return len(got) == SIZE


# Some leave while the device waits for its own pace.
@pytest.mark.parametrize("stay", [0.05, 0.1, 0.2, 0.3, 1.0])
def test_askers_who_take_nothing_leave_the_day_to_others(stay: float, tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, SIZE)

    async def attack() -> int:
        async with Switch() as switch:
            await switch.holder(HOLDER, local_release(info, tmp_path / "release"))
            for number in range(70):
                await ask_and_leave(switch, (f"30.{number % 7}.{number // 7}.9", 4000), stay)
            await asyncio.sleep(60.0)
            return sum([await fetch(switch, (f"40.{number}.0.1", 5000)) for number in range(19)])

    assert run_alone(attack()) == 19


def test_who_takes_all_that_it_can_leaves_the_rest_of_the_day(tmp_path: Path) -> None:
    """One /16 gets 12 of 20 files, a /24 in it 10 at most; a second one the 3 before the last 5, for newcomers."""
    info, _ = make_release(tmp_path, SIZE)

    async def attack() -> list[int]:
        async with Switch() as switch:
            await switch.holder(HOLDER, local_release(info, tmp_path / "release"))
            sources = (
                [f"30.1.1.{number}" for number in range(15)],
                [f"30.1.{number}.1" for number in range(2, 10)],
                [f"31.1.{number}.1" for number in range(8)],
                [f"40.{number}.0.1" for number in range(8)],
            )
            return [sum([await fetch(switch, (host, 5000)) for host in hosts]) for hosts in sources]

    assert run_alone(attack()) == [10, 2, 3, 5]


async def ask_for_ever(switch: Switch, network: int, stay: float, holder: Address) -> None:
    """Ask from one address of a /24 after another, or from one /48 of a /32."""
    for number in itertools.count():
        host = f"2001:{256 + network:x}:{number:x}::1" if holder == HOLDER_V6 else f"30.{network}.0.{number % 250}"
        await ask_and_leave(switch, (host, 4000), stay, holder)


@contextlib.asynccontextmanager
async def askers(switch: Switch, networks: int, stay: float, holder: Address = HOLDER) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(ask_for_ever(switch, network, stay, holder)) for network in range(networks)]
    await asyncio.sleep(10.0)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_askers_who_take_nothing_leave_the_pace_to_others(tmp_path: Path) -> None:
    """Before, three of them had a fetch of 3 s take 4.5 s: they were charged a second ahead, and took none of it."""
    info, _ = make_release(tmp_path, 6 * SIZE)

    async def attack() -> float:
        async with Switch() as switch:
            await switch.holder(HOLDER, local_release(info, tmp_path / "release"))
            async with askers(switch, 3, 1.0):
                started = asyncio.get_running_loop().time()
                await fetch(switch, ("40.1.0.1", 5000))
                return asyncio.get_running_loop().time() - started

    assert run_alone(attack()) < 4.0


@pytest.mark.parametrize(("holder", "stay"), [(HOLDER, 3.0), (HOLDER, 20.0), (HOLDER_V6, 0.9)])
def test_askers_who_take_nothing_do_not_hold_the_places(holder: Address, stay: float, tmp_path: Path) -> None:
    """From 12 providers, each leaves before it is slow for so long that others get its place: 4 of 12 were served."""
    info, _ = make_release(tmp_path, SIZE)

    async def attack() -> int:
        got = 0
        async with Switch() as switch:
            await switch.holder(holder, local_release(info, tmp_path / "release"))
            async with askers(switch, 12, stay, holder):
                for number in range(12):
                    host = f"40.{number}.0.1" if holder == HOLDER else f"2a{number:02x}::1"
                    got += await fetch(switch, (host, 5000), holder)
                    await asyncio.sleep(5.0)
        return got

    assert run_alone(attack()) >= 9
