"""Who speaks v1 and means no good: what one connection gets, costs, and keeps others from.

The real endpoints, exchange and meetings, on virtual time, at addresses of many networks.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.budgets import UploadLimiter
from pypatcher.errors import PeerError
from pypatcher.nat.ways import EveryWay
from pypatcher.transfer import StallRule
from pypatcher.transfer.gate import NOBODY, OfferGate
from pypatcher.transfer.v1.meetings import MeetingsV1
from pypatcher.transfer.v1.messages import Flags, Hello, Kind, RangesRequest, encode_message
from pypatcher.transport import CloseCode, Connection
from tests.support.manifests import word
from tests.support.node_fakes import run_alone
from tests.support.switch import Switch
from tests.support.transport import local_release, make_release
from tests.support.v1_nodes import NAMESPACE, Speaker

DEVICE: Address = ("20.1.1.1", 6881)
STRANGER: Address = ("30.0.0.1", 4000)
SIZE = 500_000
WORD = word("2.0.0")


async def open_device(
    switch: Switch, folder: Path, rate: int = 1 << 20, address: Address = DEVICE
) -> tuple[Speaker, PatchInfo]:
    """A device that holds a release and knows the owner's word."""
    limiter = UploadLimiter(rate, clock=asyncio.get_running_loop().time)
    device = Speaker(await switch.endpoint(address), limiter, StallRule())
    info, _ = make_release(folder, SIZE)
    device.hold(local_release(info, folder / "release"))
    device.word.hear_at_once(WORD.encode())
    return device, info


async def dial(switch: Switch) -> Connection:
    """A stranger's connection, on which it said HELLO."""
    client = await switch.endpoint(STRANGER)
    connection = await client.connect(DEVICE, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
    await say_hello(connection)
    return connection


async def say_hello(connection: Connection) -> None:
    await (await connection.open_uni()).write(encode_message(Kind.HELLO, Hello().encode()))


async def ask(connection: Connection, kind: int, payload: bytes = b"") -> bytes:
    """What is answered, status included."""
    stream = await connection.open_stream()
    await stream.write(encode_message(kind, payload))
    await stream.finish()
    stream.expect_much(1 << 20)
    parts: list[bytes] = []
    while part := await stream.read(1 << 20):
        parts.append(part)
    return b"".join(parts)


def ranges(info: PatchInfo, *asked: tuple[int, int]) -> bytes:
    return RangesRequest(info.release_id, Flags(0), asked).encode()


def test_one_connection_gets_no_more_of_a_day_than_its_address(tmp_path: Path) -> None:
    """The attack: the same release over and over on one connection, which was asked in once: 100 times of 100."""

    async def attack() -> int:
        async with Switch() as switch:
            _, info = await open_device(switch, tmp_path)
            connection = await dial(switch)
            whole = ranges(info, (0, SIZE))
            return sum([len(await ask(connection, Kind.RANGES, whole)) > SIZE for _ in range(20)])

    assert run_alone(attack()) == 5


def test_the_owners_word_is_given_once_on_a_connection(tmp_path: Path) -> None:
    """The attack: MANIFEST over and over, which is in no limit of uploads: 42 kB/s of a device that gives nothing."""

    async def attack() -> list[bytes]:
        async with Switch() as switch:
            device, _ = await open_device(switch, tmp_path, rate=0)
            connection = await dial(switch)
            given = [await ask(connection, Kind.MANIFEST) for _ in range(3)]
            newer = word("2.0.0", revision=1)
            device.word.hear_at_once(newer.encode())
            assert await ask(connection, Kind.MANIFEST) == b"\0" + newer.encode()
            return given

    busy = bytes((CloseCode.BUSY,))
    assert run_alone(attack()) == [b"\0" + WORD.encode(), busy, busy]


async def nag(connection: Connection, requests: Sequence[tuple[int, bytes]], every: float) -> None:
    """Ask for nothing of worth, for as long as the connection lasts."""
    with contextlib.suppress(PeerError):
        while True:
            for kind, payload in requests:
                await ask(connection, kind, payload)
            await asyncio.sleep(every)


@pytest.mark.parametrize("takes", [False, True], ids=["asks what nobody knows", "takes a byte now and then"])
def test_who_takes_nothing_of_worth_keeps_no_connection(takes: bool, tmp_path: Path) -> None:
    """The attack: one byte of a release, which keeps the place, and then next to nothing every 9 s, for ever."""

    async def attack() -> float:
        async with Switch() as switch:
            _, info = await open_device(switch, tmp_path)
            connection = await dial(switch)
            assert await ask(connection, Kind.RANGES, ranges(info, (0, 1)))
            again = (int(Kind.RANGES), ranges(info, (0, 1))) if takes else (77, b"")
            async with asyncio.timeout(3600):
                await nag(connection, [again], 9.0)
            return asyncio.get_running_loop().time()

    assert run_alone(attack()) < 60.0


@pytest.mark.parametrize("takes", [False, True], ids=["asks what nobody knows", "takes what it may"])
def test_who_nags_keeps_nobody_from_being_greeted(takes: bool, tmp_path: Path) -> None:
    """The attack: who is dialed asks something every second, so that this meeting never ends, and no other begins."""

    async def attack() -> int:
        async with Switch() as switch:
            device, info = await open_device(switch, tmp_path, rate=2000)
            dialed = 0
            whole = (int(Kind.RANGES), ranges(info, (0, SIZE)))

            async def answer(connection: Connection) -> None:
                nonlocal dialed
                dialed += 1
                connection.keep_place()
                await say_hello(connection)
                await nag(connection, [whole if takes else (77, b"")], 1.0)
                await connection.wait_closed()

            stranger = await switch.endpoint(STRANGER)
            stranger.serve(NAMESPACE.alpn_v1 or "", answer)
            ways = EveryWay(0.0)
            meetings = MeetingsV1(
                device.exchange, ways, NOBODY, ways, gate=OfferGate(), rng=random.Random(1), known=(STRANGER,)
            )
            greeting = asyncio.create_task(meetings.run(lambda: 5.0))
            await asyncio.sleep(240.0)
            greeting.cancel()
            await asyncio.gather(greeting, return_exceptions=True)
            return dialed

    assert run_alone(attack()) >= 5


def test_a_neighbour_that_says_to_have_it_fills_no_log(tmp_path: Path) -> None:
    """The attack: take a byte, say that it is whole, and dial again: an event each time, 15 a second."""

    async def attack() -> int:
        async with Switch() as switch:
            device, info = await open_device(switch, tmp_path, address=("192.168.1.1", 6881))
            neighbour = await switch.endpoint(("192.168.1.9", 4000))
            for _ in range(60):
                connection = await neighbour.connect(device.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
                control = await connection.open_uni()
                await control.write(encode_message(Kind.HELLO, Hello().encode()))
                await ask(connection, Kind.RANGES, ranges(info, (0, 1)))
                # That it took the byte is known by its acknowledgement.
                await asyncio.sleep(1.0)
                await control.write(encode_message(Kind.HELLO, Hello(held=(info,)).encode()))
                await asyncio.sleep(0.5)
                connection.close()
            return len(device.events)

    assert run_alone(attack()) == 16
