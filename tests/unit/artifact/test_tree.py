"""The chunk tree: the vectors, the walk that asks only for what is new, and every node that must be refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.chunks import COMPILED, PARAMETERS
from pypatcher.artifact.tree import MAX_LEVEL, NODE_LIMIT, Tree, TreeNode, Walk, build_tree, index_limit, node_id
from pypatcher.errors import CodecError, ContentMismatchError
from tests.unit.artifact.conftest import Opened, vector_bytes

CASES = json.loads((Path(__file__).parents[2] / "vectors" / "tree.json").read_text())["cases"]
ID = bytes(16)
RANDOM = random.Random(3).randbytes(2_000_000)


@pytest.mark.parametrize("case", [case for case in CASES if COMPILED or case["chunks"] < 300])
def test_roots_are_those_of_the_vectors(opened: Opened, case: dict[str, Any]) -> None:
    data = vector_bytes(case["input"])
    built = build_tree(opened(data), len(data), PARAMETERS[case["parameters"]])
    assert built.root.hex() == case["root"]
    assert len(built.sizes) == case["chunks"]
    assert len(built.nodes) == case["nodes"]
    assert 1 + max(TreeNode.decode(node).level for node in built.nodes.values()) == case["levels"]
    assert case["root_node"] in (None, built.nodes[built.root].hex())


def made(opened: Opened, data: bytes) -> Tree:
    return build_tree(opened(data), len(data))


def walk_through(walk: Walk, built: Tree) -> int:
    """Answer everything that is asked for; how many nodes that were."""
    count = 0
    while walk.missing:
        for name in walk.missing:
            walk.add(built.nodes[name])
            count += 1
    return count


def test_a_walk_finds_every_chunk(opened: Opened) -> None:
    built = made(opened, RANDOM)
    walk = Walk(built.root, len(RANDOM))
    assert walk_through(walk, built) == len(built.nodes)
    assert walk.finish() == (built.sizes, built.ids)
    assert walk.received <= index_limit(len(RANDOM))
    assert sum(chunk.size for chunk in built.chunks()) == len(RANDOM)


def test_who_has_the_old_file_asks_only_for_what_differs(opened: Opened) -> None:
    old, new = made(opened, RANDOM), made(opened, RANDOM[:900_000] + b"one more line" + RANDOM[900_000:])
    walk = Walk(new.root, new.file_size, old.nodes.get)
    assert walk_through(walk, new) <= 6
    assert walk.finish() == (new.sizes, new.ids)


def test_who_has_the_file_asks_for_nothing(opened: Opened) -> None:
    built = made(opened, RANDOM)
    walk = Walk(built.root, len(RANDOM), built.nodes.get)
    assert walk.missing == []
    assert walk.finish() == (built.sizes, built.ids)


def test_nodes_here_that_are_not_what_their_id_says_are_asked_for(opened: Opened) -> None:
    built = made(opened, RANDOM)
    walk = Walk(built.root, len(RANDOM), lambda _: b"rubbish")
    walk_through(walk, built)
    assert walk.finish() == (built.sizes, built.ids)


def test_a_repeated_part_is_asked_for_once(opened: Opened) -> None:
    built = made(opened, RANDOM * 3)
    walk = Walk(built.root, len(RANDOM) * 3)
    asked = walk_through(walk, built)
    assert asked == len(built.nodes) < sum(1 for _ in built.chunks()) / 4
    assert walk.finish() == (built.sizes, built.ids)


def test_an_empty_file_has_no_tree(opened: Opened) -> None:
    with pytest.raises(ContentMismatchError, match="empty"):
        build_tree(opened(b""), 0)


nodes = st.lists(
    st.tuples(st.integers(1, (1 << 64) - 1), st.binary(min_size=16, max_size=16)), min_size=1, max_size=128
)


@given(st.integers(1, 2), st.integers(0, MAX_LEVEL), nodes)
def test_a_node_survives_its_bytes(parameters: int, level: int, entries: list[tuple[int, bytes]]) -> None:
    sizes, ids = zip(*entries, strict=True)
    node = TreeNode(parameters, level, sizes, ids)
    assert TreeNode.decode(node.encode()) == node
    assert len(node.encode()) <= NODE_LIMIT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x00",
        b"\x03\x00\x01\x01" + ID,
        b"\x00\x00\x01\x01" + ID,
        b"\x01\x0d\x01\x01" + ID,
        b"\x01\x00\x00",
        b"\x01\x00\x81" + (b"\x01" + ID) * 129,
        b"\x01\x00\x01\x00" + ID,
        b"\x01\x00\x01\x81\x00" + ID,
        b"\x01\x00\x02\x01" + ID,
        b"\x01\x00\x01\x01" + ID + b"\0",
        bytes(NODE_LIMIT + 1),
    ],
)
def test_bytes_that_are_no_node_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        TreeNode.decode(data)


def leaf(*sizes: int, parameters: int = 1) -> bytes:
    return TreeNode(parameters, 0, sizes, tuple(bytes([at]) * 16 for at in range(len(sizes)))).encode()


def above(level: int, *children: tuple[int, bytes], parameters: int = 1) -> bytes:
    sizes, below = zip(*children, strict=True)
    return TreeNode(parameters, level, sizes, tuple(node_id(each) for each in below)).encode()


def refused(*encoded: bytes, size: int) -> None:
    """The last of these nodes, the first being the root, is refused."""
    walk = Walk(node_id(encoded[0]), size)
    for node in encoded[:-1]:
        walk.add(node)
    with pytest.raises(CodecError):
        walk.add(encoded[-1])


def test_a_root_of_another_size_than_the_file_is_refused() -> None:
    refused(leaf(2000, 3000), size=5001)


def test_a_root_with_parameters_of_another_size_of_file_is_refused() -> None:
    refused(leaf(5000, parameters=2), size=5000)


def test_a_child_of_another_level_is_refused() -> None:
    low = leaf(5000)
    refused(above(2, (5000, low)), low, size=5000)


def test_a_child_of_another_size_than_its_parent_says_is_refused() -> None:
    low = leaf(5000)
    refused(above(1, (4999, low)), low, size=4999)


def test_a_node_that_stands_for_two_sizes_is_refused() -> None:
    low = leaf(5000)
    refused(above(1, (5000, low), (5001, low)), size=10_001)


def test_a_node_that_nobody_asked_for_is_refused() -> None:
    walk = Walk(node_id(leaf(5000)), 5000)
    with pytest.raises(CodecError, match="asked"):
        walk.add(leaf(4000, 1000))
    walk.add(leaf(5000))
    with pytest.raises(CodecError, match="asked"):
        walk.add(leaf(5000))


@pytest.mark.parametrize("sizes", [(1024, 5000), (16_385, 5000), (5000, 16_385), (1, 1), (5000, 1000, 5000)])
def test_chunks_that_no_cut_leaves_are_refused(sizes: tuple[int, ...]) -> None:
    walk = Walk(node_id(leaf(*sizes)), sum(sizes))
    walk.add(leaf(*sizes))
    with pytest.raises(CodecError, match="no cut"):
        walk.finish()


def test_a_short_last_chunk_is_refused_where_it_is_not_the_files_last() -> None:
    low = leaf(5000, 100)
    root = above(1, (5100, low), (5100, low))
    walk = Walk(node_id(root), 10_200)
    walk.add(root)
    walk.add(low)
    with pytest.raises(CodecError, match="no cut"):
        walk.finish()


def test_a_bomb_of_nodes_that_repeat_ends_before_it_expands() -> None:
    size, low = 128, leaf(*[1] * 128)
    nodes = [low]
    for level in range(1, 4):
        nodes.append(above(level, *[(size, nodes[-1])] * 128))
        size *= 128
    walk = Walk(node_id(nodes[-1]), size)
    for node in reversed(nodes):
        walk.add(node)
    with pytest.raises(CodecError, match="no cut"):
        walk.finish()


def test_a_tree_above_three_percent_of_its_file_is_refused() -> None:
    size = 3_000_000
    low = [TreeNode(1, 0, (size // 100_000,), (at.to_bytes(16, "big"),)).encode() for at in range(100_000)]
    groups = [low[at : at + 100] for at in range(0, len(low), 100)]
    high = [above(1, *[(size // 100_000, each) for each in group]) for group in groups]
    middle = [above(2, *[(size // 1000, each) for each in high[at : at + 100]]) for at in range(0, 1000, 100)]
    root = above(3, *[(size // 10, each) for each in middle])
    everything = {node_id(each): each for each in (*low, *high, *middle, root)}
    walk = Walk(node_id(root), size)
    with pytest.raises(CodecError, match="larger"):
        while walk.missing:
            walk.add(everything[walk.missing[0]])
    assert walk.received < index_limit(size) + NODE_LIMIT


@given(st.data())
def test_no_answer_does_worse_than_an_error(data: st.DataObject) -> None:
    sizes, ids = zip(*data.draw(nodes), strict=True)
    root = TreeNode(data.draw(st.integers(1, 2)), data.draw(st.integers(0, 2)), sizes, ids).encode()
    size = data.draw(st.sampled_from([sum(sizes), 5000, 1 << 32]))
    try:
        walk = Walk(node_id(root), size)
        walk.add(root)
        if not walk.missing:
            walk.finish()
    except CodecError:
        return
