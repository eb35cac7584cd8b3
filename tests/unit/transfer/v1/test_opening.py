"""Chunks of a release that are made of opened content: who is asked for it, what that costs, and who lies about it."""

from __future__ import annotations

import asyncio
import zlib
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact.chunks import COMPILED, PARAMETERS
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.tree import Tree, build_tree
from pypatcher.bencode import Value
from pypatcher.budgets import UploadLimiter
from pypatcher.errors import PeerLacksError
from pypatcher.transfer import StallRule
from pypatcher.transfer.giving import OpenRelease
from pypatcher.transfer.stall import DEFAULT_STALL, StallWatch
from pypatcher.transfer.v1.answers import ABSENT, encode_nodes, encode_piece
from pypatcher.transfer.v1.held_trees import HeldTrees, OpenContent
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.messages import Flags, Hello, Kind, RangesRequest, TreeRequest
from pypatcher.transfer.v1.parts_writer import PartsWriter
from pypatcher.transport.stream import Stream
from tests.support.manifests import word_of
from tests.support.node_fakes import run_alone
from tests.support.opened_reference import opened_content, packed_program, some_text
from tests.support.swarm_fleet import SwarmDevice, SwarmFleet
from tests.support.transport import local_release
from tests.support.v1_nodes import Liar, open_liar, open_speaker
from tests.unit.transfer.v1.test_changed import Scene, spoiled
from tests.unit.transfer.v1.test_giving import _Taken

BEFORE = [some_text(5000, 100 + number) for number in range(40)]
AFTER = [*BEFORE[:5], BEFORE[5][:3000] + b"one line more" + BEFORE[5][3000:], *BEFORE[6:20], BEFORE[21], BEFORE[20]]
AFTER += BEFORE[22:]
OLD, NEW = packed_program(BEFORE), packed_program(AFTER)
CONTENT, _ = opened_content(NEW)
HOLDERS: list[Address] = [(f"20.{number}.0.1", 6881) for number in range(3)]
LIAR: Address = ("25.0.0.1", 6881)
DEVICE: Address = ("30.0.0.1", 6881)


class Opened(Scene):
    """A new release of streams, its opened content, and that one's tree.

    Attributes:
        content: in memory.
    """

    def __init__(self, folder: Path, new: bytes = NEW, old: bytes = OLD) -> None:
        super().__init__(folder, new, old)
        self.content = CONTENT if new is NEW else opened_content(new)[0]
        self.opened = self.tree_over(self.content)

    def tree_over(self, content: bytes) -> Tree:
        path = self.folder / "content"
        path.write_bytes(content)
        with path.open("rb") as file:
            return build_tree(file.fileno(), len(content), PARAMETERS[129])

    def said(self, root: bytes | None = None) -> Manifest:
        """The owner's word that states both roots."""
        told = bytes([self.tree.parameters.number]) + self.tree.root
        keys: dict[bytes, Value] = {b"i": self.info.to_postcard(), b"tree": told}
        return word_of(keys | {b"otree": b"\x81" + (root or self.opened.root)}, "2.0.0")

    def serve(self, liar: Liar, content: bytes | None = None, tree: Tree | None = None) -> None:
        """Prepare a peer that answers everything from these, or rightly."""
        nodes = self.tree.nodes | (tree or self.opened).nodes
        held = content or self.content

        def give_nodes(payload: bytes) -> bytes:
            return b"\0" + encode_nodes([nodes.get(each, ABSENT) for each in TreeRequest.decode(payload).nodes])

        def give_ranges(payload: bytes) -> bytes:
            asked = RangesRequest.decode(payload)
            data = held if asked.flags & Flags.OPENED else self.new
            return b"\0" + b"".join(encode_piece(data[at : at + size], zlib_welcome=True) for at, size in asked.ranges)

        liar.answers = {Kind.TREE: give_nodes, Kind.RANGES: give_ranges}


async def moved(scene: Opened, word: Manifest) -> int:
    """Bytes that come from an honest holder."""
    async with open_speaker(word) as holder, open_speaker(word) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == scene.new
    return scene.came


async def test_a_changed_line_moves_less_than_half_of_its_plain_chunks(tmp_path: Path) -> None:
    scene = Opened(tmp_path)
    assert await moved(scene, scene.said()) < await moved(scene, scene.word()) / 2


async def test_where_little_is_missing_nobody_is_asked(tmp_path: Path) -> None:
    scene = Opened(tmp_path, new=OLD[:-300] + b"one line" * 30 + OLD[-300:])
    async with open_liar(Hello(held=(scene.info,)), scene.serve) as holder, open_speaker(scene.said()) as taker:
        flags = ask_for(holder)
        assert await scene.fetch(taker, holder) == scene.new
    assert set(flags) == {Flags.ZLIB}


def ask_for(holder: Liar) -> list[Flags]:
    """Flags of the ranges that are asked of it from now on."""
    found: list[Flags] = []
    give = holder.answers[Kind.RANGES]
    assert callable(give)

    def note(payload: bytes) -> bytes:
        found.append(RangesRequest.decode(payload).flags)
        return give(payload)

    holder.answers[Kind.RANGES] = note
    return found


def older(scene: Opened, liar: Liar) -> None:
    """A holder of the version before: it does not have that tree, nor anything opened."""
    scene.serve(liar, tree=Tree(PARAMETERS[129]))


async def test_a_holder_that_opens_nothing_gives_the_release_all_the_same(tmp_path: Path) -> None:
    scene = Opened(tmp_path)
    plain = await moved(scene, scene.word())
    async with (
        open_liar(Hello(held=(scene.info,)), partial(older, scene)) as holder,
        open_speaker(scene.said()) as taker,
    ):
        assert await scene.fetch(taker, holder) == NEW
    assert scene.came < plain * 11 // 10


async def test_who_knows_no_root_says_that_it_has_nothing_opened(tmp_path: Path) -> None:
    scene = Opened(tmp_path)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        async with taker.exchange._session_with(holder.address) as session:
            await session.attended()
            member = SwarmMember(session, StallRule())
            assert await member.nodes(scene.info, 129, [scene.opened.root]) == [ABSENT]
            for flags in (Flags.OPENED, Flags.OPENED | Flags.ZLIB):
                with pytest.raises(PeerLacksError):
                    await anext(member.pieces(scene.info, [(0, 1)], 1, flags))


@pytest.mark.parametrize("wrong", ["another root", "not yet", "no compiled cuts"])
async def test_a_giver_gives_only_what_the_owner_stated(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Opened(tmp_path)
    stated = b"\x81" + (bytes(16) if wrong == "another root" else scene.opened.root)
    if wrong == "not yet":
        monkeypatch.setattr("pypatcher.transfer.v1.held_trees._PATIENCE", 0.0)
    async with open_speaker(scene.word()) as holder:
        scene.hold(holder)
        if wrong == "no compiled cuts":
            monkeypatch.setattr("pypatcher.artifact.chunks.COMPILED", False)
            monkeypatch.setattr("pypatcher.transfer.v1.held_trees._PLAIN_LIMIT", 1000)
        trees, held = HeldTrees(holder.shelf, lambda _: stated), local_release(scene.info, tmp_path / "new")
        held = next(iter(holder.shelf._held))
        assert await trees.opened(held, 129) is None
        assert await trees.opened(held, 130) is None
        if wrong == "not yet":
            monkeypatch.setattr("pypatcher.transfer.v1.held_trees._PATIENCE", 5.0)
            opened = await trees.opened(held, 129)
            assert opened is not None and opened == trees.known_opened(held)


@pytest.mark.parametrize("lie", ["a byte", "a node", "no range", "less", "more", "nothing", "stalls", "hangs up"])
def test_a_liar_beside_an_honest_holder_costs_little(lie: str, tmp_path: Path) -> None:
    """All are asked, the liar first; what it gave is of no use."""

    def prepare(scene: Opened, liar: Liar) -> None:
        scene.serve(liar)
        if lie == "a byte":
            scene.serve(liar, content=bytes(byte ^ 1 for byte in scene.content))
        elif lie == "a node":
            honest = liar.answers[Kind.TREE]
            assert callable(honest)
            other = b"\0" + encode_nodes([next(iter(scene.tree.nodes.values()))])
            liar.answers[Kind.TREE] = lambda payload: other if payload[32] == 0x81 else honest(payload)
        elif lie == "stalls":
            liar.drips = True
        elif lie == "hangs up":
            liar.hangs_up = True
        else:
            answer = {
                "no range": b"\0" + encode_piece(None, zlib_welcome=False),
                "less": b"\0\0\1x",
                "more": b"\0" + bytes(100_000),
                "nothing": b"",
            }[lie]
            liar.answers[Kind.RANGES] = answer

    async def body() -> tuple[SwarmDevice, Liar]:
        scene = Opened(tmp_path)
        async with SwarmFleet(tmp_path, old=OLD, new=NEW) as fleet:
            scene.info = fleet.info
            liar = Liar(await fleet.network.endpoint(LIAR), Hello(held=(fleet.info,)))
            prepare(scene, liar)
            for address in HOLDERS:
                await fleet.seed(address)
            fleet.tell(liar.endpoint.node_id, LIAR)
            device = await fleet.device(DEVICE)
            await fleet.all_have_it(300.0)
            return device, liar

    device, liar = run_alone(body())
    assert device.came < 0.7 * len(NEW)
    assert device.done_at < 20.0
    assert len(liar.asked) < 30


def lying_tables(content: bytes) -> dict[str, bytes]:
    """Opened contents whose tables say something else."""
    size = int.from_bytes(content[-4:], "little") + 4
    table = content[-size:]
    return {
        "its length": content[:-4] + (1 << 31).to_bytes(4, "little"),
        "no table": content[:-4] + bytes(4),
        "one stream less": content[:-size] + bytes([table[0] - 1]) + table[1:],
        "a longer gap": content[:-size] + table[:1] + b"\xff\x7f" + table[3:],
        "a level": content[:-size] + spoiled(table, 6),
    }


@pytest.mark.parametrize("lie", lying_tables(CONTENT))
async def test_a_table_that_lies_costs_little_and_nobody_is_to_blame(lie: str, tmp_path: Path) -> None:
    """It is the owner's word that says so: a root of something else."""
    scene = Opened(tmp_path)
    content = lying_tables(scene.content)[lie]
    tree = scene.tree_over(content)
    async with (
        open_liar(Hello(held=(scene.info,)), partial(scene.serve, content=content, tree=tree)) as holder,
        open_speaker(scene.said(tree.root)) as taker,
    ):
        assert await scene.fetch(taker, holder) == NEW
    assert scene.came < len(NEW) * 12 // 10


async def test_an_old_file_that_changes_meanwhile_is_no_source(tmp_path: Path) -> None:
    scene = Opened(tmp_path)
    async with open_liar(Hello(held=(scene.info,)), scene.serve) as holder, open_speaker(scene.said()) as taker:
        give = holder.answers[Kind.RANGES]
        assert callable(give)

        def overwrite(payload: bytes) -> bytes:
            if RangesRequest.decode(payload).flags & Flags.OPENED:
                with (tmp_path / "old").open("r+b") as file:
                    file.write(bytes(len(OLD)))
            return give(payload)

        holder.answers[Kind.RANGES] = overwrite
        assert await scene.fetch(taker, holder) == NEW


def test_a_lan_takes_one_copy_of_what_changed(tmp_path: Path) -> None:
    """One opens it, the others take the file's chunks of that one."""

    async def body() -> int:
        async with SwarmFleet(tmp_path, old=OLD, new=NEW) as fleet:
            await fleet.seed(HOLDERS[0], 1_250_000)
            for number in range(2, 8):
                await fleet.device((f"192.168.1.{number}", 6881))
            await fleet.all_have_it()
            return sum(device.gave[HOLDERS[0]] for device in fleet.devices)

    missing = sum(len(zlib.compress(b"".join(modules), 9)) for modules in (BEFORE, AFTER)) // 2
    # Without the compiled cuts a tree takes longer than others wait for it: what changed comes by the plain way.
    assert run_alone(body()) < (missing / 2 if COMPILED else 1.3 * missing)


def test_ranges_of_a_byte_in_large_streams_are_paid_first(tmp_path: Path) -> None:
    """The attack: 1024 in one request, each in a stream of 4 MiB: ten seconds of a core. It is paid first."""
    scene = Opened(tmp_path, new=packed_program([some_text(700_000, seed) for seed in range(4)], 1))
    held = local_release(scene.info, tmp_path / "new")

    async def ask(address: Address) -> float:
        clock = asyncio.get_running_loop().time
        limiter, taken = UploadLimiter(clock=clock), _Taken()
        upload = limiter.admit(address, len(scene.new))
        assert upload is not None
        async with open_speaker() as holder:
            holder.hold(held)
            opened = await HeldTrees(holder.shelf, lambda _: b"\x81" + scene.opened.root).opened(held, 129)
        assert opened is not None
        began = clock()
        for _ in range(16):
            with OpenContent(OpenRelease(held), opened) as content:
                watch = StallWatch(DEFAULT_STALL, clock)
                parts = PartsWriter(content, cast("Stream", taken), upload, watch, zlib_welcome=True)
                await parts.give([(at, 1) for at in range(0, opened.size, len(scene.content) // 1000)])
        return clock() - began

    inflated = 16 * 7 * 700_000
    assert run_alone(ask(("192.168.1.7", 1))) > inflated / 4 / (4 << 20) - 1
    assert run_alone(ask(("20.1.0.1", 1))) > inflated / 4 / (1 << 20) - 1
