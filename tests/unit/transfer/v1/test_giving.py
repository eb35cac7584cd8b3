"""What a giver charges a taker for by v1."""

from __future__ import annotations

import asyncio
import os
from array import array
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

from pypatcher.artifact.chunks import parameters_for
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.artifact.patch import make_info
from pypatcher.artifact.tree import build_tree, node_id
from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.upload import Upload
from pypatcher.errors import PatcherError
from pypatcher.transfer.giving import OpenRelease, give
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StallWatch
from pypatcher.transfer.v1.held_trees import HeldTrees
from pypatcher.transfer.v1.messages import Flags, Kind, RangesRequest, TreeRequest, encode_message
from pypatcher.transfer.v1.part_held import PartHeld
from pypatcher.transfer.v1.parts_writer import PartsWriter
from pypatcher.transfer.v1.plan import Plan
from pypatcher.transport import CloseCode, Connection, quic
from pypatcher.transport.stream import Stream
from pypatcher.version import Version
from tests.support.manifests import OWNER
from tests.support.node_fakes import run_alone
from tests.support.siege import until
from tests.support.transport import local_release, make_release, open_endpoint
from tests.support.v1_nodes import NAMESPACE, open_speaker

_SIZE = 1 << 18


class _Taken:
    """A stream whose peer takes everything at once."""

    def __init__(self) -> None:
        self.acknowledged = self.written = 0

    async def write(self, data: bytes, ahead: int = 0) -> None:
        self.acknowledged += len(data)
        self.written += len(data)


def test_who_asks_for_zeros_uses_up_no_more_of_a_day_than_it_takes(tmp_path: Path) -> None:
    """The attack: zlib welcome, 256 KiB of zeros a time: 300 bytes each, and each was charged whole."""
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    stamp = held.path.stat()
    limiter, taken = UploadLimiter(), _Taken()
    held.path.write_bytes(bytes(_SIZE))
    assert held.path.stat().st_size == stamp.st_size

    async def ask() -> None:
        with OpenRelease(held) as file:
            for number in range(4):
                for _ in range(6):
                    upload = limiter.admit((f"20.{number}.0.1", 1), _SIZE)
                    assert upload is not None
                    watch = StallWatch(DEFAULT_STALL, lambda: 0.0)
                    await PartsWriter(file, cast("Stream", taken), upload, watch, zlib_welcome=True).give([(0, _SIZE)])
                    upload.settle(_SIZE)
                    upload.end()

    run_alone(ask())
    assert taken.acknowledged < 24 * 1000


def test_ranges_of_a_byte_cost_as_much_as_chunks(tmp_path: Path) -> None:
    """The attack: 1024 of them in 4 kB, each of which was a turn of a thread, or two: 15 requests took 3.7 s, now 0.1.

    What they cost is counted in the pace, too: else whoever holds a place asks for as many as the processor can give.
    """
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    ranges = [(at * 256, 1) for at in range(1024)]
    turns = 0

    async def ask() -> float:
        nonlocal turns
        loop = asyncio.get_running_loop()
        in_thread = loop.run_in_executor

        def counted(*arguments: Any) -> Any:
            nonlocal turns
            turns += 1
            return in_thread(*arguments)

        upload = UploadLimiter(clock=loop.time).admit(("20.1.0.1", 1), _SIZE)
        assert upload is not None
        with OpenRelease(held) as file, mock.patch.object(loop, "run_in_executor", counted):
            for zlib_welcome in (False, True):
                taken, watch = _Taken(), StallWatch(DEFAULT_STALL, lambda: 0.0)
                parts = PartsWriter(file, cast("Stream", taken), upload, watch, zlib_welcome=zlib_welcome)
                for _ in range(4):
                    await parts.give(ranges)
                assert taken.written == 4 * 3 * len(ranges)
        return loop.time()

    assert run_alone(ask()) > 6.0
    assert turns == 8


def test_what_is_not_here_costs_next_to_nothing(tmp_path: Path) -> None:
    """The attack: ask who has a part for 16 MiB that it lacks: nothing left, and all others waited for 16 s."""
    body = bytes(17 << 20)
    (tmp_path / "part").write_bytes(body)
    sizes = array("I", [4096] * (len(body) // 4096))
    plan = Plan(sizes, bytearray(16 * len(sizes)), OldChunks(parameters_for(len(body))))
    plan.is_there(0, 1)
    info = make_info(Version(1, 0, 0), bytes(32), len(body) - 176, OWNER)
    part = PartHeld(info, bytes(16), {}, plan, os.open(tmp_path / "part", os.O_RDONLY))
    requests = [[(4096, 16 << 20)], [(4096 + at * 16384, 16383) for at in range(1023)], [(0, 16 << 20)]]

    async def ask() -> tuple[float, int, float]:
        clock = asyncio.get_running_loop().time
        limiter, taken = UploadLimiter(clock=clock), _Taken()
        upload, other = limiter.admit(("20.1.0.1", 1), len(body)), limiter.admit(("20.2.0.1", 1), len(body))
        assert upload is not None and other is not None
        for ranges in requests:
            for zlib_welcome in (False, True):
                with part.open() as file:
                    watch = StallWatch(DEFAULT_STALL, clock)
                    parts = PartsWriter(file, cast("Stream", taken), upload, watch, zlib_welcome=zlib_welcome)
                    assert await parts.give(ranges) == []
        left, waits = upload.left, other.spend(1)
        await asyncio.sleep(1.5)
        return waits, len(body) - left, upload.pace()

    waits, took, pace = run_alone(ask())
    part.close()
    assert waits < 0.1
    assert took < 8192
    assert pace == 0.0


def test_ranges_of_a_byte_take_no_more_of_the_pace_than_others_get(tmp_path: Path) -> None:
    """The attack: 1024 of them a request: each was worth a MiB of the pace at once, beside pieces of 64 KiB."""
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    ranges = [(at * 256, 1) for at in range(1024)]

    async def share() -> float:
        clock = asyncio.get_running_loop().time
        limiter, taken = UploadLimiter(clock=clock), _Taken()
        uploads = [limiter.admit((f"2{number}.1.0.1", 1), 1 << 28) for number in range(2)]
        greedy, honest = (cast("Upload", each) for each in uploads)

        async def ask_for_bytes() -> None:
            with OpenRelease(held) as file:
                parts = PartsWriter(
                    file, cast("Stream", _Taken()), greedy, StallWatch(DEFAULT_STALL, clock), zlib_welcome=False
                )
                while True:
                    await parts.give(ranges)

        asking = asyncio.create_task(ask_for_bytes())
        taking = asyncio.create_task(
            give(cast("Stream", taken), bytes(1 << 26), honest, StallWatch(DEFAULT_STALL, clock))
        )
        await asyncio.sleep(30.0)
        for task in (asking, taking):
            task.cancel()
        await asyncio.gather(asking, taking, return_exceptions=True)
        return taken.written / (30 * limiter.rate)

    assert run_alone(share()) > 0.45


@pytest.mark.parametrize(("size", "least", "most"), [(1, 5.0, 30.0), (4096, 0.0, 0.1)])
def test_a_neighbour_has_no_processor_for_itself(tmp_path: Path, size: int, least: float, most: float) -> None:
    """The attack: 1024 ranges of a byte a request, in the LAN, where nothing was paced: a core for 400 kB a second."""
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")

    async def ask() -> float:
        clock = asyncio.get_running_loop().time
        upload = UploadLimiter(clock=clock).admit(("192.168.1.7", 1), _SIZE)
        assert upload is not None
        with OpenRelease(held) as file:
            parts = PartsWriter(
                file, cast("Stream", _Taken()), upload, StallWatch(DEFAULT_STALL, clock), zlib_welcome=False
            )
            for _ in range(24):
                await parts.give([(at, size) for at in range(0, _SIZE, max(size, 256))])
        return clock()

    assert least <= run_alone(ask()) < most


def test_who_takes_a_byte_of_each_chunk_keeps_no_place() -> None:
    """The attack: what that costs counted as if it had been taken: the place was kept, and left without a trace."""

    async def ask() -> tuple[float, bool]:
        clock = asyncio.get_running_loop().time
        upload = UploadLimiter(clock=clock).admit(("20.1.0.1", 1), 1 << 20)
        assert upload is not None
        upload.spend(1000)
        upload.work(1 << 20)
        await asyncio.sleep(1.5)
        return upload.pace(), upload.left_little

    assert run_alone(ask()) == (0.0, True)


def test_a_tree_that_two_wait_for_and_nobody_can_build_fails_for_both(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    held.path.unlink()
    shelf = Shelf(UploadLimiter())
    shelf.put([held])
    trees = HeldTrees(shelf, lambda _: None)

    async def ask() -> list[object]:
        return await asyncio.gather(trees.plain(held), trees.plain(held), return_exceptions=True)

    assert [type(answer) for answer in run_alone(ask())] == [FileNotFoundError] * 2


def test_the_tree_of_a_file_that_changes_meanwhile_is_not_kept(tmp_path: Path) -> None:
    """Else a file that was the right one again gave wrong nodes for as long as the node ran."""
    info, body = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    with held.path.open("rb") as file:
        right = build_tree(file.fileno(), _SIZE).root
    shelf, is_there = Shelf(UploadLimiter()), False
    shelf.put([held], is_unchanged=lambda: is_there)
    trees = HeldTrees(shelf, lambda _: None)

    async def ask() -> bytes:
        nonlocal is_there
        held.path.write_bytes(bytes(_SIZE))
        with pytest.raises(PatcherError, match="changed"):
            await trees.plain(held)
        held.path.write_bytes(body)
        is_there = True
        tree = await trees.plain(held)
        assert tree is not None
        return tree.root

    assert run_alone(ask()) == right


async def test_nodes_that_were_taken_count_whoever_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: take two fifths of an answer and break it off: they were given back to the day."""
    monkeypatch.setattr("pypatcher.budgets.upload_limits.is_lan", lambda _: False)
    info, _ = make_release(tmp_path, 1 << 22)
    with (tmp_path / "release").open("rb") as file:
        largest = max(build_tree(file.fileno(), info.file_size).nodes.values(), key=len)
    limiter, parameters = UploadLimiter(), parameters_for(info.file_size).number

    async def ask(connection: Connection, *nodes: bytes) -> Stream:
        stream = await connection.open_stream()
        await stream.write(encode_message(Kind.TREE, TreeRequest(info.release_id, parameters, nodes).encode()))
        await stream.finish()
        return stream

    async with open_speaker(limiter=limiter) as holder, open_endpoint() as client:
        holder.hold(local_release(info, tmp_path / "release"))
        connection = await client.connect(holder.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        answer, taken = await ask(connection, *[node_id(largest)] * 256), 0
        while taken < 256 * len(largest) * 2 // 5:
            taken += len(await answer.read(1 << 14))
        answer.reset(CloseCode.DONE)
        connection.close()
        await until(lambda: not limiter._active)
    assert limiter._sent.total(("all",), limiter.now())["all"] >= taken


async def test_what_deflating_spared_pays_for_nothing_that_was_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: take zeros, then leave other bytes where they are: they stayed charged to the day."""
    monkeypatch.setattr("pypatcher.budgets.upload_limits.is_lan", lambda _: False)
    begin = quic.RawKeyConnection.__init__

    def begin_with(connection: quic.RawKeyConnection, *arguments: Any, **options: Any) -> None:
        dials = options.get("original_destination_connection_id") is None
        with mock.patch.object(quic, "DEFAULT_WINDOW", 64 if dials else quic.DEFAULT_WINDOW):
            begin(connection, *arguments, **options)

    monkeypatch.setattr(quic.RawKeyConnection, "__init__", begin_with)
    info, body = make_release(tmp_path, 1 << 20)
    (tmp_path / "release").write_bytes(bytes(1 << 19) + body[1 << 19 :])
    limiter = UploadLimiter()

    async def ask(connection: Connection, offset: int) -> Stream:
        stream = await connection.open_stream()
        asked = RangesRequest(info.release_id, Flags.ZLIB, ((offset, 1 << 18),))
        await stream.write(encode_message(Kind.RANGES, asked.encode()))
        await stream.finish()
        return stream

    async with open_speaker(limiter=limiter) as holder, open_endpoint() as client:
        holder.hold(local_release(info, tmp_path / "release"))
        connection = await client.connect(holder.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")
        zeros = await ask(connection, 0)
        zeros.expect_much(1 << 20)
        while await zeros.read(1 << 14):
            pass
        left = [await ask(connection, 3 << 18) for _ in range(3)]
        await until(lambda: limiter._sent.total(("all",), limiter.now())["all"] > 3 << 14)
        connection.close()
        await until(lambda: not limiter._active)
        assert len(left) == 3
    assert limiter._sent.total(("all",), limiter.now())["all"] < 2000
