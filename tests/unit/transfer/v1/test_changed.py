"""Only what changed is fetched: by the owner's tree, out of old files and from one peer, who may lie."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypatcher.artifact import chunks
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.artifact.patch import make_info
from pypatcher.artifact.tree import NODE_LIMIT, Tree, TreeNode, build_tree, node_id
from pypatcher.bencode import Value
from pypatcher.budgets import UploadLimiter
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerError
from pypatcher.transfer import StallRule
from pypatcher.transfer.download import Arrival
from pypatcher.transfer.v1.answers import ABSENT, encode_nodes, encode_piece
from pypatcher.transfer.v1.messages import Hello, Kind, RangesRequest, TreeRequest
from pypatcher.update.outfile import Download
from pypatcher.version import Version
from tests.support.manifests import OWNER, word_of
from tests.support.node_fakes import EventLog
from tests.support.transport import local_release
from tests.support.v1_nodes import Liar, Speaker, open_liar, open_speaker

OLD = random.Random(1).randbytes(600_000)
NEW = OLD[:200_000] + b"one line more" + OLD[200_000:400_000] + b"another" + OLD[400_007:]


class Scene:
    """An old file, a new release, and what the owner says about it."""

    def __init__(self, folder: Path, new: bytes = NEW, old: bytes | None = OLD) -> None:
        self.new, self.folder = new, folder
        (folder / "new").write_bytes(new)
        if old is not None:
            (folder / "old").write_bytes(old)
        self.info = make_info(Version(2, 0, 0), bytes(32), len(new) - 176, OWNER)
        self.tree = tree_of(folder / "new")
        self.came = 0
        self.is_by_tree = False
        self.left = b""

    def word(self, root: bytes | None = None, key: bytes = b"tree") -> Manifest:
        other = make_info(Version(3, 0, 0), bytes(32), 1000, OWNER)
        told = bytes([self.tree.parameters.number]) + (root or self.tree.root)
        keys: dict[bytes, Value] = {b"i": self.info.to_postcard(), key: told}
        if key == b"stree":
            keys |= {b"i": other.to_postcard(), b"stable": self.info.to_postcard()}
        return word_of(keys, "3.0.0" if key == b"stree" else "2.0.0")

    def hold(self, member: Speaker) -> None:
        member.hold(local_release(self.info, self.folder / "new"))

    @contextmanager
    def download(self) -> Iterator[Download]:
        folder = os.open(self.folder, os.O_RDONLY)
        there = Download(self.folder / "out", folder, [self.folder / "old"])
        try:
            yield there
        finally:
            there.discard()
            os.close(folder)

    async def fetch(self, taker: Speaker, giver: Speaker | Liar, left: bytes = b"") -> bytes:
        """What came of it, as it is on disk then; ``left`` was there before."""
        told = Candidate(self.info, giver.endpoint.node_id, giver.address, "a test", speaks_v1=True)
        with self.download() as there:
            there.write_part(left, 0)
            arrival = Arrival(there, EventLog(), "2.0.0", "a peer")
            heard = arrival.received

            def received(count: int, total: int, came: int | None = None) -> None:
                self.came = count if came is None else came
                heard(count, total, came)

            arrival.received = received  # type: ignore[method-assign]
            async with asyncio.timeout(20):
                await taker.exchange.fetch(told, arrival)
            self.is_by_tree = arrival.drop_tree is not None
            self.left = os.pread(there.fd, 1 << 30, 0)
            there.cut(len(self.new))
            return os.pread(there.fd, 1 << 30, 0)


def tree_of(path: Path) -> Tree:
    with path.open("rb") as file:
        return build_tree(file.fileno(), path.stat().st_size)


@pytest.mark.parametrize("key", [b"tree", b"stree"])
async def test_a_change_of_two_lines_moves_two_ranges_and_some_nodes(key: bytes, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with open_speaker(scene.word(key=key)) as holder, open_speaker(scene.word(key=key)) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == NEW
    assert 0 < scene.came < len(NEW) * 8 // 100
    assert scene.is_by_tree


async def test_what_is_here_already_is_not_fetched_at_all(tmp_path: Path) -> None:
    scene = Scene(tmp_path, new=OLD)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == OLD
    assert scene.came < NODE_LIMIT + 10


async def test_an_old_file_that_changes_while_it_is_copied_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was verified, then read again for the copy: what was written in between counted as right, and was given on."""
    copy = Download.copy_part

    def changed(there: Download, source: int, start: int, offset: int, size: int) -> None:
        with (tmp_path / "old").open("r+b") as file:
            file.seek(start + size // 2)
            file.write(b"somebody writes to it")
        copy(there, source, start, offset, size)

    monkeypatch.setattr(Download, "copy_part", changed)
    scene = Scene(tmp_path)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == NEW


async def test_a_file_of_other_bytes_is_fetched_through_its_tree(tmp_path: Path) -> None:
    new = random.Random(2).randbytes(9_000_000)
    scene = Scene(tmp_path, new=new)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == new
    assert len(new) < scene.came < len(new) * 102 // 100


@pytest.mark.parametrize("lacks", ["an old file", "an old file that is none", "compiled cuts"])
async def test_without_an_old_file_the_tree_is_followed_as_well(
    lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that several can give, and a download that broke goes on."""
    scene = Scene(tmp_path, old=None if lacks == "an old file" else OLD)
    if lacks == "an old file that is none":
        (tmp_path / "old").unlink()
        (tmp_path / "old").mkdir()
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        if lacks == "compiled cuts":
            await holder.exchange._giver._trees.plain(local_release(scene.info, tmp_path / "new"))
            monkeypatch.setattr(chunks, "COMPILED", False)
            monkeypatch.setattr("pypatcher.transfer.v1.old_files._PLAIN_LIMIT", 1000)
        assert await scene.fetch(taker, holder) == NEW
    assert len(NEW) < scene.came < len(NEW) * 101 // 100
    assert scene.is_by_tree


@pytest.mark.parametrize("lacks", ["a root", "a tree there"])
async def test_where_a_tree_is_of_no_use_the_whole_is_fetched(
    lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    if lacks == "a tree there":
        monkeypatch.setattr(chunks, "COMPILED", False)
        monkeypatch.setattr("pypatcher.transfer.v1.held_trees._PLAIN_LIMIT", 1000)
    known = None if lacks == "a root" else scene.word()
    async with open_speaker(known) as holder, open_speaker(known) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == NEW
    assert scene.came == len(NEW)
    assert not scene.is_by_tree


async def test_a_root_of_another_file_costs_a_question(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    wrong = scene.word(root=bytes(16))
    async with open_speaker(wrong) as holder, open_speaker(wrong) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == NEW
    assert scene.came == len(NEW)


def serving(scene: Scene, tree: Tree | None = None, data: bytes | None = None) -> Callable[[Liar], None]:
    """Prepares a peer that answers from these, in place of what is true."""
    nodes = (tree or scene.tree).nodes
    file = scene.new if data is None else data

    def give_nodes(payload: bytes) -> bytes:
        return b"\0" + encode_nodes([nodes.get(each, ABSENT) for each in TreeRequest.decode(payload).nodes])

    def give_ranges(payload: bytes) -> bytes:
        asked = RangesRequest.decode(payload).ranges
        return b"\0" + b"".join(encode_piece(file[at : at + size], zlib_welcome=False) for at, size in asked)

    def prepare(liar: Liar) -> None:
        liar.answers = {Kind.TREE: give_nodes, Kind.RANGES: give_ranges}

    return prepare


def node(sizes: list[int], ids: list[bytes], level: int = 0) -> bytes:
    return TreeNode(1, level, tuple(sizes), tuple(ids)).encode()


async def test_a_signed_root_of_no_tree_is_dropped_and_the_whole_fetched(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    size = len(NEW)
    for top in (node([size], [bytes(16)]), node([size - 1], [bytes(16)]), node([5, size - 5], [bytes(16)] * 2, 1)):
        known, tree = scene.word(root=node_id(top)), Tree(scene.tree.parameters)
        tree.nodes = {node_id(top): top}
        inner = node([5], [bytes(16)])
        tree.nodes[node_id(inner)] = inner
        async with (
            open_liar(Hello(held=(scene.info,)), serving(scene, tree)) as liar,
            open_speaker(known) as taker,
        ):
            liar.answers[Kind.TREE], asked = b"\0" + encode_nodes([top]), liar.asked
            assert await scene.fetch(taker, liar) == NEW
            assert taker.exchange._root(scene.info) is None
            assert asked.count(Kind.TREE) == 1


def spoiled(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "lie", ["a chunk", "a node", "no node", "more nodes", "too long a tree", "no range", "nothing"]
)
async def test_a_liar_costs_little_and_is_named(lie: str, tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    other = Scene(tmp_path, new=spoiled(NEW, 200_003))
    (tmp_path / "new").write_bytes(NEW)

    def lies(liar: Liar) -> None:
        serving(scene)(liar)
        if lie == "a chunk":
            serving(scene, data=other.new)(liar)
        elif lie == "a node":
            liar.answers[Kind.TREE] = b"\0" + encode_nodes([next(iter(other.tree.nodes.values()))])
        elif lie == "no node":
            tree = Tree(scene.tree.parameters)
            tree.nodes = {scene.tree.root: scene.tree.nodes[scene.tree.root]}
            serving(scene, tree)(liar)
        elif lie == "more nodes":
            liar.answers[Kind.TREE] = b"\0" + encode_nodes([scene.tree.nodes[scene.tree.root]] * 2)
        elif lie == "too long a tree":
            liar.answers[Kind.TREE] = b"\0" + bytes(3 << 20)
        elif lie == "no range":
            liar.answers[Kind.RANGES] = b"\0" + encode_piece(None, zlib_welcome=False)
        else:
            liar.answers[Kind.RANGES] = b""

    async with open_liar(Hello(held=(scene.info,)), lies) as liar, open_speaker(scene.word()) as taker:
        with pytest.raises(PeerError):
            await scene.fetch(taker, liar)
        assert scene.came < 100_000
        assert taker.exchange._root(scene.info) == scene.tree.root


@pytest.mark.parametrize("where", [Kind.TREE, Kind.RANGES])
async def test_who_stalls_is_given_up(where: Kind, tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    def stalls(liar: Liar) -> None:
        serving(scene)(liar)
        honest = liar.answers[where]
        assert callable(honest)

        def drip(payload: bytes) -> bytes:
            liar.drips = True
            return honest(payload)[:1]

        liar.answers[where] = drip

    rule = StallRule(1000.0, 0.5)
    async with open_liar(Hello(held=(scene.info,)), stalls) as liar, open_speaker(scene.word(), stall=rule) as taker:
        with pytest.raises(PeerError):
            await scene.fetch(taker, liar)


async def test_an_old_file_that_changes_meanwhile_spoils_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    asked = 0

    def overwrites(liar: Liar) -> None:
        serving(scene)(liar)
        honest = liar.answers[Kind.RANGES]
        assert callable(honest)

        def give(payload: bytes) -> bytes:
            nonlocal asked
            asked += 1
            with (tmp_path / "old").open("r+b") as file:
                file.write(bytes(50_000))
            return honest(payload)

        liar.answers[Kind.RANGES] = give

    async with open_liar(Hello(held=(scene.info,)), overwrites) as liar, open_speaker(scene.word()) as taker:
        assert await scene.fetch(taker, liar) == NEW
    assert asked == 3, "two for what is new, one for what is not there any more"


async def test_old_files_are_cut_once_and_before_anybody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path)
    cut: list[int] = []
    add = OldChunks.add

    def added(old: OldChunks, fd: int, size: int, number: int) -> None:
        cut.append(len(liar.asked))
        add(old, fd, size, number)

    monkeypatch.setattr(OldChunks, "add", added)

    def nothing(liar: Liar) -> None:
        serving(scene)(liar)
        liar.answers[Kind.RANGES] = b""

    async with (
        open_liar(Hello(held=(scene.info,)), nothing) as liar,
        open_speaker(scene.word()) as holder,
        open_speaker(scene.word()) as taker,
    ):
        scene.hold(holder)
        with pytest.raises(PeerError):
            await scene.fetch(taker, liar)
        assert await scene.fetch(taker, holder) == NEW
        assert cut == [0]
        (tmp_path / "old").write_bytes(OLD[1:])
        assert await scene.fetch(taker, holder) == NEW
    assert len(cut) == 2


@pytest.mark.parametrize("old", [OLD, None], ids=["with an old file", "with none"])
async def test_what_an_earlier_download_left_is_looked_at_and_kept(old: bytes | None, tmp_path: Path) -> None:
    scene = Scene(tmp_path, old=old)
    left = NEW[:100_000] + bytes(30_000) + NEW[130_000:400_000] + b"torn" + bytes(50_000)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder, left) == NEW
    assert scene.came < (100_000 if old else len(NEW) - 300_000)


async def test_who_goes_on_asks_for_no_node_of_the_tree_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, old=None)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder) == NEW
        nodes = scene.came - len(NEW)
        left = bytearray(scene.left)
        left[:100_000] = bytes(100_000)
        assert await scene.fetch(taker, holder, bytes(left)) == NEW
        assert 100_000 <= scene.came < 100_000 + 2 * 16_384
        left[-1] ^= 1  # a node that is another one is asked for, and nothing is believed
        assert await scene.fetch(taker, holder, bytes(left)) == NEW
        assert 0 < scene.came - 100_000 < 2 * 16_384 + nodes // 2


async def test_where_looking_takes_long_it_goes_on_beside_the_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a slow disk that is cut again and again looks at the same part each time, and the rest is never kept."""
    monkeypatch.setattr("pypatcher.transfer.v1.swarm._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("pypatcher.transfer.v1.picker._LARGEST", 1 << 18)
    monkeypatch.setattr("pypatcher.budgets.upload_limits.is_lan", lambda _: False)
    new = random.Random(3).randbytes(3_000_000)
    scene = Scene(tmp_path, new=new, old=None)
    limiter = UploadLimiter(rate=500_000)
    async with open_speaker(scene.word(), limiter=limiter) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        assert await scene.fetch(taker, holder, new) == new
    assert scene.came < len(new) // 2


async def test_what_came_whole_is_given_on_while_it_is_verified(tmp_path: Path) -> None:
    scene = Scene(tmp_path, old=None)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as first:
        scene.hold(holder)
        assert await scene.fetch(first, holder) == NEW
        async with open_speaker(scene.word()) as second:
            assert await scene.fetch(second, first) == NEW
        first.exchange.swarms._give_up()
        async with open_speaker(scene.word()) as third:
            with pytest.raises(PeerError):
                await scene.fetch(third, first)
