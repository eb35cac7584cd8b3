"""Opened content: found by inflating alone, bounded, read anywhere; and chunks of a new file that are made of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypatcher.artifact.chunks import COMPILED, PARAMETERS, Chunk, leaf_id
from pypatcher.artifact.new_content import NewContent
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.artifact.opened import (
    STREAM_LIMIT,
    Content,
    Streams,
    open_file,
    stated_opened_root,
)
from pypatcher.artifact.tree import Walk, build_tree
from pypatcher.errors import CodecError, ContentMismatchError
from pypatcher.file_parts import read_part
from tests.support.opened_reference import VECTORS, file_of, opened_content, some_text
from tests.unit.artifact.conftest import Opened, vector_bytes

CASES = json.loads(VECTORS.read_text())["cases"]
OPENED = PARAMETERS[129]


def read_all(fd: int) -> tuple[Streams, Content]:
    streams, _ = open_file(fd, os.fstat(fd).st_size, OPENED)
    return streams, Content(partial(read_part, fd), streams)


def where(streams: Streams) -> list[list[int]]:
    found = (streams.stream(number) for number in range(len(streams)))
    return [[each.start, each.size, each.opened, streams.levels[each.stream or 0]] for each in found]


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_the_opened_content_is_that_of_the_vectors(opened: Opened, case: dict[str, Any]) -> None:
    data = file_of(case["file"], vector_bytes)
    if not COMPILED and len(data) > 100_000:
        pytest.skip("a MiB takes a minute to cut without the compiled code")
    fd = opened(data)
    streams, tree = open_file(fd, len(data), PARAMETERS[case["parameters"]])
    content = Content(partial(read_part, fd), streams)
    assert where(streams) == case["streams"]
    assert content.size == tree.file_size == case["content_size"]
    assert hashlib.sha256(content.read(content.size, 0)).hexdigest() == case["content_sha256"]
    assert tree.root.hex() == case["root"]


PARTS = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, 3000), st.integers(0, 9)).map(
            lambda each: zlib.compress(some_text(each[0], 1), each[1])
        ),
        st.sampled_from([b"\x78", b"\x78\xda", b"\x78\x01\x01\x05\x00\xfa\xff"]),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(PARTS, st.randoms(use_true_random=False))
def test_any_part_of_it_is_what_all_of_it_has_there(parts: list[bytes], rng: random.Random) -> None:
    data = b"".join(parts) or b"x"
    expected, found = opened_content(data)
    if len(expected) > 8 * len(data):
        return
    read: Callable[[int, int], bytes] = lambda size, offset: data[offset : offset + size]  # noqa: E731
    streams = Streams.decode(expected[-Streams.table_size(expected[-4:]) :], len(data), len(expected))
    assert [tuple(each) for each in where(streams)] == found
    content = Content(read, streams)
    for _ in range(20):
        place = rng.randrange(len(expected))
        size = rng.randrange(1, len(expected) - place + 1)
        assert content.read(size, place) == expected[place : place + size]
        start = rng.randrange(len(data))
        end = rng.randrange(start + 1, len(data) + 1)
        elements = list(streams.elements(start, end))
        assert elements[0].start <= start < end <= elements[-1].start + elements[-1].size
        assert all(one.start + one.size == two.start for one, two in pairwise(elements))
        assert all(one.place + one.opened == two.place for one, two in pairwise(elements))


def test_a_stream_of_more_than_4_mib_stays_closed(opened: Opened) -> None:
    whole, more = zlib.compress(bytes(STREAM_LIMIT), 1), zlib.compress(bytes(STREAM_LIMIT + 1), 1)
    beside = random.Random(1).randbytes(2 * STREAM_LIMIT // 8) if COMPILED else b""
    streams = Streams(len(beside) + len(whole))
    if COMPILED:
        streams, _ = read_all(opened(beside + more + whole))
        assert [each[:3] for each in where(streams)] == [[len(beside) + len(more), len(whole), STREAM_LIMIT]]
    else:
        streams.add(len(beside), len(whole) - 1, STREAM_LIMIT // 1024, 0)


def test_a_bomb_has_no_opened_content_and_costs_no_memory(opened: Opened) -> None:
    fd = opened(zlib.compress(bytes(STREAM_LIMIT - 1), 9) * 50)
    tracemalloc.start()
    with pytest.raises(ContentMismatchError, match="hold too much"):
        read_all(fd)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * STREAM_LIMIT
    assert stated_opened_root(fd) is None


def test_what_only_looks_like_streams_costs_no_more_than_the_file_may(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored blocks that begin again every few bytes: each would be inflated to the end of the file."""
    monkeypatch.setattr("pypatcher.artifact.opened._FREE_WORK", 0)
    inside = b"\x78\x01" * 30_000
    block = b"\x78\x01\x00" + len(inside).to_bytes(2, "little") + (len(inside) ^ 0xFFFF).to_bytes(2, "little")
    with pytest.raises(ContentMismatchError):
        read_all(opened((block + b"\x78\x01\x00\x20\x00\xdf\xff" * 8000)[:60_000]))


def table(*streams: tuple[int, int, int], count: int | None = None) -> bytes:
    made = bytearray(leb(len(streams) if count is None else count))
    for each in streams:
        for number in each:
            made += leb(number)
    return bytes(made) + len(made).to_bytes(4, "little")


def leb(value: int) -> bytes:
    return bytes([value % 128 + 128]) + leb(value // 128) if value > 127 else bytes([value])


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        bytes(4),
        table(count=1),
        table((0, 500, 4 * 1024), count=2),
        table((0, 500, 4 * 1024), count=0),
        table((0, 0, 4 * 1024)),
        table((0, 1001, 4 * 1024)),
        table((501, 500, 4 * 1024)),
        table((0, 500, 4 * 1023)),
        table((0, 500, 4 * (STREAM_LIMIT + 1))),
        table((0, 500, 4 * 9000)),
        table((0, 500, 4 * 3000), (0, 501, 4 * 3000)),
        table((0, 500, 4 * 1025)),
        table((1 << 63, 500, 4 * 1024)),
        table((0, 500, 4 * 1024))[:-1] + b"\1",
        table(*[(0, 1, 4 * 1024)] * 70_000),
    ],
)
def test_a_table_of_no_such_file_is_refused(lie: bytes) -> None:
    with pytest.raises(CodecError):
        Streams.decode(lie, 1000, 1000 + 524 + len(lie))


def test_a_table_survives_its_bytes() -> None:
    told = table((0, 500, 4 * 1024))
    found = Streams.decode(told, 1000, 1000 + 524 + len(told))
    assert found.encode() == told


class Update:
    """An old file and a new one, as who has the one makes the other."""

    def __init__(self, opened: Opened, old: bytes, new: bytes) -> None:
        self.new, fd = new, opened(old)
        new_fd = opened(new)
        streams, tree = open_file(fd, len(old), OPENED)
        self.streams, new_tree = open_file(new_fd, len(new), OPENED)
        self.content = Content(partial(read_part, new_fd), self.streams)
        known = OldChunks(OPENED)
        known.add_tree(tree, 0)
        walk = Walk(new_tree.root, new_tree.file_size, known.nodes.get, opened=True)
        while walk.missing:
            for name in walk.missing:
                walk.add(new_tree.nodes[name])
        self.made = NewContent(*walk.finish(), known, Content(partial(read_part, fd), streams))
        here = {chunk.id for chunk in build_tree(fd, len(old), PARAMETERS[1]).chunks()}
        self.missing = [each for each in build_tree(new_fd, len(new)).chunks() if each.id not in here]
        self.came = 0

    def fetch(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            chunk = self.made.chunk(number)
            self.made.fetched[number] = self.content.read(chunk.size, chunk.offset)
            self.came += chunk.size

    def choose(self, most: int = 1 << 20) -> list[Chunk]:
        self.fetch(self.made.lacking(4, self.made.size - 4))
        size = Streams.table_size(self.made.table(4))
        self.fetch(self.made.lacking(size, self.made.size - size))
        self.made.follow(Streams.decode(self.made.table(size), len(self.new), self.made.size))
        chosen, needed = self.made.choose(self.missing, most)
        self.fetch(needed)
        return chosen

    def right(self, chosen: list[Chunk]) -> int:
        """Bytes of those that come out right."""
        return sum(chunk.size for chunk, data in self.made.make(chosen) if leaf_id(data) == chunk.id)


BEFORE = [some_text(7000, 100 + number) for number in range(12)]
AFTER = [*BEFORE[:5], BEFORE[5][:3000] + b"one line more" + BEFORE[5][3000:], *BEFORE[6:]]
AROUND = random.Random(2).randbytes(9000)


def program(modules: list[bytes], pack: Callable[[bytes], bytes] = lambda data: zlib.compress(data, 9)) -> bytes:
    """Small streams and a large one side by side, bytes around them."""
    return AROUND + b"".join(map(pack, modules)) + pack(b"".join(modules)) + AROUND[:500]


def test_a_changed_line_is_made_of_what_is_here_and_a_few_chunks(opened: Opened) -> None:
    update = Update(opened, program(BEFORE), program(AFTER))
    chosen = update.choose()
    missing = sum(chunk.size for chunk in update.missing)
    assert update.right(chosen) == sum(chunk.size for chunk in chosen) > missing * 3 // 4
    assert update.came < missing * 2 // 3


def test_streams_in_another_order_are_made_of_what_is_here(opened: Opened) -> None:
    old, new = zlib.compress(b"".join(BEFORE), 9), zlib.compress(b"".join(BEFORE[6:] + BEFORE[:6]), 9)
    update = Update(opened, AROUND + old, AROUND + new)
    chosen = update.choose()
    assert update.right(chosen) == sum(chunk.size for chunk in chosen) > len(new) * 3 // 4


def otherwise(data: bytes) -> bytes:
    """As another library deflates: with a header like ours, and other bytes behind it."""
    deflater = zlib.compressobj(9, memLevel=1)
    return deflater.compress(data) + deflater.flush()


def test_what_is_deflated_otherwise_here_is_left_to_the_plain_way(opened: Opened) -> None:
    update = Update(opened, program(BEFORE, otherwise), program(AFTER, otherwise))
    chosen = update.choose()
    assert update.right(chosen) == sum(chunk.size for chunk in chosen)
    assert update.came < 40_000, "the table alone"
    assert len(chosen) < len(update.missing) / 4


def test_a_new_file_that_is_deflated_otherwise_comes_out_wrong(opened: Opened) -> None:
    update = Update(opened, program(BEFORE), program(AFTER, otherwise))
    assert update.right(update.choose()) < len(program(AFTER)) / 4


def test_no_more_is_to_be_fetched_than_may_be(opened: Opened) -> None:
    update = Update(opened, program(BEFORE), program(AFTER))
    assert update.choose(0) == []
    chosen = update.choose(9000)
    assert 0 < sum(update.made.chunk(each).size for each in update.made.fetched) < 9000 + 3 * 16384
    assert update.right(chosen) == sum(chunk.size for chunk in chosen)


def test_an_old_file_that_changed_meanwhile_is_no_source(opened: Opened, tmp_path: Any) -> None:
    update = Update(opened, program(BEFORE), program(AFTER))
    chosen = update.choose()
    (tmp_path / "file-0").write_bytes(bytes(100_000))
    with pytest.raises(ContentMismatchError):
        update.right(chosen)


def test_a_root_is_stated_where_streams_are_deflated_as_here(opened: Opened) -> None:
    data = program(BEFORE)
    stated = stated_opened_root(opened(data))
    assert stated == bytes([129]) + open_file(opened(data), len(data), OPENED)[1].root
    assert stated_opened_root(opened(program(BEFORE, otherwise))) is None
    assert stated_opened_root(opened(AROUND)) is None
