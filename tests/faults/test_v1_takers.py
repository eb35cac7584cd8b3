"""Who asks by v1 and takes next to nothing: what it keeps of places, pace and day from others.

The real endpoints and exchange, on virtual time, at addresses of many networks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.chunks import parameters_for
from pypatcher.artifact.tree import build_tree, node_id
from pypatcher.budgets import UploadLimiter
from pypatcher.errors import PeerError
from pypatcher.transfer import StallRule
from pypatcher.transfer.v1.messages import Flags, Hello, Kind, RangesRequest, TreeRequest, encode_message
from pypatcher.transport import CloseCode, Connection, Endpoint, quic
from pypatcher.transport.stream import Stream
from tests.support.node_fakes import run_alone
from tests.support.switch import Switch
from tests.support.transport import local_release, make_release
from tests.support.v1_nodes import NAMESPACE, Speaker

DEVICE = ("20.1.1.1", 6881)
SIZE = 1 << 22
WINDOW = 64


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who dials grants 64 bytes of each stream, until it expects much."""
    begin = quic.RawKeyConnection.__init__

    def begin_with(connection: quic.RawKeyConnection, *arguments: Any, **options: Any) -> None:
        dials = options.get("original_destination_connection_id") is None
        with mock.patch.object(quic, "DEFAULT_WINDOW", WINDOW if dials else quic.DEFAULT_WINDOW):
            begin(connection, *arguments, **options)

    monkeypatch.setattr(quic.RawKeyConnection, "__init__", begin_with)


class GivingDevice:
    """A device that holds a release, and who asks it."""

    def __init__(self, switch: Switch, device: Speaker, info: PatchInfo, node: bytes) -> None:
        self.device, self.info = device, info
        self.limiter = device.shelf.limiter
        self.node = node
        self._switch = switch

    async def dial(self, host: str, hello: Hello = Hello()) -> Connection:  # noqa: B008
        """A connection of somebody's, on which HELLO was said."""
        return await self.dial_from(await self.client(host), hello)

    async def client(self, host: str) -> Endpoint:
        return await self._switch.endpoint((host, 4000))

    async def dial_from(self, client: Endpoint, hello: Hello = Hello()) -> Connection:  # noqa: B008
        connection = await client.connect(DEVICE, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        control = await connection.open_uni()
        await control.write(encode_message(Kind.HELLO, hello.encode()))
        return connection

    async def ask(self, connection: Connection, size: int = 1 << 16) -> Stream:
        """For the first bytes of the release."""
        return await _ask(connection, Kind.RANGES, RangesRequest(self.info.release_id, Flags(0), ((0, size),)).encode())

    async def ask_nodes(self, connection: Connection, count: int) -> Stream:
        """For as many nodes of the tree."""
        parameters = parameters_for(SIZE).number
        asked = TreeRequest(self.info.release_id, parameters, (node_id(self.node),) * count)
        return await _ask(connection, Kind.TREE, asked.encode())

    async def gets(self, host: str) -> bool:
        """Whether somebody there is given a MiB within 20 s."""
        connection = await self.dial(host)
        try:
            async with asyncio.timeout(20.0):
                stream = await self.ask(connection, 1 << 20)
                stream.expect_much(1 << 21)
                got = 0
                while part := await stream.read(1 << 16):
                    got += len(part)
                return got > 1 << 20
        except (TimeoutError, PeerError):
            return False
        finally:
            connection.close()


async def _ask(connection: Connection, kind: Kind, payload: bytes) -> Stream:
    stream = await connection.open_stream()
    await stream.write(encode_message(kind, payload))
    await stream.finish()
    return stream


@contextlib.asynccontextmanager
async def open_device(folder: Path) -> AsyncIterator[GivingDevice]:
    async with Switch() as switch:
        limiter = UploadLimiter(clock=asyncio.get_running_loop().time)
        device = Speaker(await switch.endpoint(DEVICE), limiter, StallRule())
        info, _ = make_release(folder, SIZE)
        device.hold(local_release(info, folder / "release"))
        with (folder / "release").open("rb") as file:
            node = max(build_tree(file.fileno(), SIZE).nodes.values(), key=len)
        yield GivingDevice(switch, device, info, node)


Taker = Callable[[GivingDevice, Connection], Awaitable[None]]


async def leaves_three(lab: GivingDevice, connection: Connection) -> None:
    """Three answers at once, of which nothing is taken: each was sent 16 KiB ahead."""
    for _ in range(3):
        await lab.ask(connection)
    await asyncio.sleep(25.0)


async def gives_up(lab: GivingDevice, connection: Connection) -> None:
    """One answer after another, each given up as soon as it begins."""
    for _ in range(80):
        answer = await lab.ask(connection, 1 << 14)
        await answer.read_exactly(1)
        answer.reset(CloseCode.DONE)
        await asyncio.sleep(0.2)


async def gives_up_nodes(lab: GivingDevice, connection: Connection) -> None:
    """The same with nodes of the tree."""
    count = (1 << 14) // (len(lab.node) + 2)
    for _ in range(80):
        answer = await lab.ask_nodes(connection, count)
        await answer.read_exactly(1)
        answer.reset(CloseCode.DONE)
        await asyncio.sleep(0.2)


async def take_for_ever(lab: GivingDevice, network: int, taker: Taker) -> None:
    for number in itertools.count():
        try:
            connection = await lab.dial(f"30.{network}.{number % 250}.1")
            await taker(lab, connection)
            connection.close()
        except PeerError:
            await asyncio.sleep(1.0)


@pytest.mark.parametrize("taker", [leaves_three, gives_up, gives_up_nodes])
def test_who_takes_nothing_of_many_answers_keeps_no_place(taker: Taker, tmp_path: Path) -> None:
    """The attack: what was sent ahead of each answer counted as taken: 0 of 12 newcomers, for 1 kB a second."""

    async def attack() -> tuple[int, int]:
        async with open_device(tmp_path) as lab:
            takers = [asyncio.create_task(take_for_ever(lab, number, taker)) for number in range(6)]
            await asyncio.sleep(10.0)
            got = [await lab.gets(f"40.{number}.0.1") for number in range(12)]
            for task in takers:
                task.cancel()
            await asyncio.gather(*takers, return_exceptions=True)
            await asyncio.sleep(90.0)
            return sum(got), lab.limiter._sent.total(["all"], lab.limiter.now())["all"]

    got, given = run_alone(attack())
    assert got >= 10
    assert given < (got + 1) << 20, "what nobody took is nothing of the day"


def test_who_gives_way_between_two_requests_leaves_nothing_behind(tmp_path: Path) -> None:
    """The attack: it counted for ever among those that go on without a place: four such, and there were no turns."""

    async def attack() -> int:
        async with open_device(tmp_path) as lab:
            for number in range(8):
                connection = await lab.dial(f"30.{number}.0.1", Hello(fetching=lab.info))
                begins = asyncio.get_running_loop().time()
                while asyncio.get_running_loop().time() < begins + 4.5:
                    stream = await lab.ask(connection, 1 << 17)
                    stream.expect_much(1 << 18)
                    while await stream.read(1 << 18):
                        pass
                await asyncio.sleep(0.2)
                others = [lab.limiter.admit((f"50.{number}.{each}.1", 1), SIZE) for each in range(4)]
                await asyncio.sleep(0.3)
                for upload in others:
                    assert upload is not None
                    upload.end()
                connection.close()
                await asyncio.sleep(1.0)
            return len(lab.limiter._finishing)

    assert run_alone(attack()) == 0


async def hold_a_place(lab: GivingDevice, client: Endpoint) -> None:
    """Take 8 kB now and then, on one connection after another."""
    while True:
        try:
            connection = await lab.dial_from(client)
            while True:
                stream = await lab.ask(connection, 1 << 13)
                stream.expect_much(1 << 14)
                is_busy = await stream.read(1) == bytes((CloseCode.BUSY,))
                while await stream.read(1 << 14):
                    pass
                await asyncio.sleep(0.2 if is_busy else 8.0)
        except PeerError:
            await asyncio.sleep(0.5)


def test_who_takes_a_little_now_and_then_keeps_no_newcomer_out(tmp_path: Path) -> None:
    """The attack: 12 addresses in 12 networks, 2 connections each: 0 of 8 newcomers got it at its first try."""

    async def attack() -> int:
        async with open_device(tmp_path) as lab:
            clients = [await lab.client(f"{30 + number}.1.0.1") for number in range(12)]
            holders = [asyncio.create_task(hold_a_place(lab, client)) for client in clients for _ in range(2)]
            await asyncio.sleep(10.0)
            got = [await lab.gets(f"100.{number}.0.1") for number in range(8)]
            for task in holders:
                task.cancel()
            await asyncio.gather(*holders, return_exceptions=True)
            return sum(got)

    assert run_alone(attack()) >= 7
