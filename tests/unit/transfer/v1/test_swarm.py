"""One release from several peers, on virtual time: they share the work, parts are given on, and liars cost little."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact.tree import Tree, build_tree
from pypatcher.budgets import UploadLimiter
from pypatcher.transfer.v1.answers import ABSENT, encode_nodes, encode_piece
from pypatcher.transfer.v1.messages import Hello, Kind, RangesRequest, TreeRequest, encode_message
from pypatcher.transfer.v1.session import SessionV1
from tests.support.node_fakes import run_alone
from tests.support.swarm_fleet import SwarmDevice, SwarmFleet
from tests.support.v1_nodes import Liar

SIZE = 3_000_000
RATE = 50_000
HOLDERS: list[Address] = [(f"20.{number}.0.1", 6881) for number in range(3)]
LIAR: Address = ("25.0.0.1", 6881)
DEVICE: Address = ("30.0.0.1", 6881)


async def from_three(
    folder: Path, prepare: Callable[[SwarmFleet, Liar], None] | None = None
) -> tuple[SwarmDevice, list[int]]:
    """A device that fetches from three honest holders, and from somebody who is none; what that one was asked."""
    async with SwarmFleet(folder, SIZE) as fleet:
        for address in HOLDERS:
            await fleet.seed(address, RATE)
        asked: list[int] = []
        if prepare is not None:
            liar = Liar(await fleet.network.endpoint(LIAR), Hello(held=(fleet.info,)))
            prepare(fleet, liar)
            asked = liar.asked
            fleet.tell(liar.endpoint.node_id, LIAR)
        device = await fleet.device(DEVICE)
        await fleet.all_have_it()
        return device, asked


@cache
def undisturbed() -> tuple[float, int]:
    """Seconds that it takes, and bytes that come."""
    with TemporaryDirectory() as folder:
        device, _ = run_alone(from_three(Path(folder)))
    return device.done_at, device.came


def test_three_holders_share_the_work(tmp_path: Path) -> None:
    device, _ = run_alone(from_three(tmp_path))
    assert device.done_at < SIZE / (3 * RATE) * 1.2 + 2.0
    assert SIZE < device.came < SIZE * 103 // 100
    assert all(device.gave[address] > SIZE // 5 for address in HOLDERS)


def honest(fleet: SwarmFleet, liar: Liar, tree: Tree | None = None, data: bytes | None = None) -> None:
    """The liar answers from these in place of what is true."""
    nodes, file = (tree or fleet.tree).nodes, fleet.data if data is None else data

    def give_nodes(payload: bytes) -> bytes:
        return b"\0" + encode_nodes([nodes.get(each, ABSENT) for each in TreeRequest.decode(payload).nodes])

    def give_ranges(payload: bytes) -> bytes:
        asked = RangesRequest.decode(payload).ranges
        return b"\0" + b"".join(encode_piece(file[at : at + size], zlib_welcome=False) for at, size in asked)

    liar.answers = {Kind.TREE: give_nodes, Kind.RANGES: give_ranges}


def bad_chunk(fleet: SwarmFleet, liar: Liar) -> None:
    """Every chunk has a wrong byte."""
    honest(fleet, liar, data=bytes(byte ^ 1 for byte in fleet.data))


def last_chunk_bad(fleet: SwarmFleet, liar: Liar) -> None:
    """All that it sends is right, but for every thirtieth chunk."""
    data = bytearray(fleet.data)
    for at in range(0, SIZE, 150_000):
        data[at] ^= 1
    honest(fleet, liar, data=bytes(data))


def wrong_tree(fleet: SwarmFleet, liar: Liar) -> None:
    """Its nodes are those of another file."""
    path = fleet.folder / "other"
    path.write_bytes(random.Random(7).randbytes(SIZE))
    with path.open("rb") as file:
        other = build_tree(file.fileno(), SIZE)
    honest(fleet, liar)
    liar.answers[Kind.TREE] = b"\0" + encode_nodes([other.nodes[other.root]])
    liar.answers[Kind.RANGES] = b"\0"


def root_alone(fleet: SwarmFleet, liar: Liar) -> None:
    """It has the root and nothing below it."""
    tree = Tree(fleet.tree.parameters)
    tree.nodes = {fleet.tree.root: fleet.tree.nodes[fleet.tree.root]}
    honest(fleet, liar, tree)
    liar.answers[Kind.RANGES] = b"\0"


def claims_all(fleet: SwarmFleet, liar: Liar) -> None:
    """It has nothing of what it says to have."""
    honest(fleet, liar)
    liar.answers[Kind.RANGES] = lambda payload: (
        b"\0" + b"".join(encode_piece(None, zlib_welcome=False) for _ in RangesRequest.decode(payload).ranges)
    )


def claims_all_parts(fleet: SwarmFleet, liar: Liar) -> None:
    """The same, of one that fetches as well."""
    claims_all(fleet, liar)
    liar.hello = Hello(fetching=fleet.info, parts=b"\xff" * 32)


def stalls(fleet: SwarmFleet, liar: Liar) -> None:
    """It accepts each request, and sends nothing more."""
    honest(fleet, liar)
    liar.drips = True


def hangs_up(fleet: SwarmFleet, liar: Liar) -> None:
    """It goes away when it is asked."""
    liar.hangs_up = True


def says_busy(fleet: SwarmFleet, liar: Liar) -> None:
    """It never has a place."""
    liar.answers = {Kind.TREE: b"\3", Kind.RANGES: b"\3"}


@pytest.mark.parametrize(
    "lie",
    [
        bad_chunk, last_chunk_bad, wrong_tree, root_alone, claims_all, claims_all_parts, stalls, hangs_up, says_busy,
    ],
    ids=lambda lie: lie.__name__.replace("_", " "),
)  # fmt: skip
def test_a_liar_beside_three_honest_holders_costs_little(
    lie: Callable[[SwarmFleet, Liar], None], tmp_path: Path
) -> None:
    seconds, came = undisturbed()
    device, asked = run_alone(from_three(tmp_path, lie))
    assert device.done_at < seconds * 1.1 + 0.5
    assert device.came < came + SIZE // 10
    assert asked or lie is hangs_up
    assert len(asked) < 30


def test_who_has_parts_gives_parts(tmp_path: Path) -> None:
    """A device that nobody but another, still fetching one can reach is done a moment after that one."""

    async def body() -> tuple[SwarmDevice, SwarmDevice]:
        async with SwarmFleet(tmp_path, SIZE) as fleet:
            await fleet.seed(HOLDERS[0], 200_000)
            first = await fleet.device(DEVICE)
            fleet.told = {}
            second = await fleet.device(("31.0.0.1", 6881))
            seed = fleet.seeds[0]
            fleet.tell(seed.endpoint.node_id, HOLDERS[0])
            second.hears_nobody = True
            await fleet.all_have_it()
            return first, second

    first, second = run_alone(body())
    assert second.gave.keys() == {DEVICE}
    assert second.done_at < first.done_at + 3.0


def test_neighbours_hear_of_a_fetch_and_take_part(tmp_path: Path) -> None:
    """They were met before, and nothing was to be had; nobody tells them of the seed."""

    async def body() -> list[SwarmDevice]:
        async with SwarmFleet(tmp_path, SIZE) as fleet:
            await fleet.seed(HOLDERS[0], 1_250_000)
            devices = [await fleet.device((f"192.168.1.{number}", 6881)) for number in range(2, 5)]
            for device in devices:
                device.knows, device.hears_nobody = (), device is not devices[0]
                for other in devices:
                    if other is not device:
                        device.census.prove(other.address)
            await fleet.all_have_it()
            return devices

    first, *others = run_alone(body())
    assert all(device.gave[HOLDERS[0]] == 0 for device in others)
    assert all(device.done_at < first.done_at + 3.0 for device in others)


def test_a_lan_takes_little_more_than_one_copy_from_outside(tmp_path: Path) -> None:
    async def body() -> tuple[int, SwarmFleet]:
        async with SwarmFleet(tmp_path, 2 * SIZE) as fleet:
            await fleet.seed(HOLDERS[0], 1_250_000)
            for number in range(2, 8):
                await fleet.device((f"192.168.1.{number}", 6881))
            await fleet.all_have_it()
            return fleet.network.crossed["1"], fleet

    crossed, fleet = run_alone(body())
    assert crossed < 1.3 * len(fleet.data)


def test_whoever_waits_for_a_place_has_its_turn(tmp_path: Path) -> None:
    """Two behind a holder that serves one at a time, who give nothing: one waited until the other had all of it."""

    async def body() -> tuple[list[int], int, int]:
        async with SwarmFleet(tmp_path, 1_000_000) as fleet:
            seed = await fleet.seed(HOLDERS[0], RATE, uploads=1)
            for number in range(2):
                device = await fleet.device((f"30.{number}.0.1", 6881))
                device.knows = ()
                device.speaker.shelf.limiter = UploadLimiter(0)
            running = [asyncio.create_task(device.run()) for device in fleet.devices]
            await asyncio.sleep(16.0)
            had = [device.came for device in fleet.devices]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            sent = seed.shelf.limiter._sent.total(["all"], 0.0)["all"]
            return had, sent, sum(device.came for device in fleet.devices)

    had, sent, came = run_alone(body())
    assert max(had) < 1_000_000
    assert min(had) > 50_000
    assert came <= sent < came * 105 // 100 + 100_000, "what left counts in the day, whoever's turn it was"


def test_which_parts_a_peer_has_is_heard_at_once(tmp_path: Path) -> None:
    """What else follows from a HELLO waits for a second after the last; parts go through five devices and more."""
    heard: list[tuple[str, float]] = []

    async def body() -> None:
        async with SwarmFleet(tmp_path, 100_000) as fleet:
            clock = asyncio.get_running_loop().time
            member = await fleet.speaker(DEVICE)
            member.exchange.endpoint.serve(member.exchange.alpn, member.exchange.answer)

            def note(session: SessionV1) -> None:
                if session.hello is not None and not session.connection.is_closed:
                    heard.append((session.hello.software, clock()))

            member.exchange.swarms.hear = note  # type: ignore[method-assign]
            client = await fleet.network.endpoint(LIAR)
            connection = await client.connect(DEVICE, node_id=None, alpn=member.exchange.alpn)
            stream = await connection.open_uni()
            for number in range(3):
                await stream.write(encode_message(Kind.HELLO, Hello(software=str(number)).encode()))
                await asyncio.sleep(0.1)
            connection.close()

    run_alone(body())
    assert [software for software, _ in heard] == list("012")
    assert heard[-1][1] - heard[0][1] < 0.3
