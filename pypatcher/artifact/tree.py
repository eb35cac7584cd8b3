"""The chunk tree: hashes over a file's chunks, level by level, by which whoever has an older file finds what differs.

protocol.md "The chunk tree". What lives here: the bytes of a node, the tree of a file that is here (``build_tree``),
and the walk through one that is elsewhere (``Walk``), which believes nothing. Pure but for reading the file that a tree
is built of; who is asked for nodes, and what is done with the chunks, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from pypatcher.artifact.chunks import ID_SIZE, PARAMETERS, Chunk, Parameters, cut_file, parameters_for
from pypatcher.artifact.postcard import Reader, encode_unsigned
from pypatcher.errors import CodecError, ContentMismatchError

__all__ = [
    "MAX_LEVEL",
    "NODE_LIMIT",
    "Tree",
    "TreeNode",
    "Walk",
    "build_tree",
    "index_limit",
    "node_id",
    "stated_root",
    "tree_of",
]

MAX_LEVEL = 12
_MOST_ENTRIES = 128
_FEWEST_ENTRIES = 4
_ENDS_EVERY = 32
NODE_LIMIT = 3 + _MOST_ENTRIES * (10 + ID_SIZE)
"""Bytes of a node at most."""
_NODE = b"pypatcher node"


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One node: of each entry the bytes of the file below it, and its id; those of level 0 are chunks.

    Attributes:
        parameters: their number.
        level: 0 to 12.
        sizes: bytes below each entry.
        ids: 16 bytes for each entry.
    """

    parameters: int
    level: int
    sizes: tuple[int, ...]
    ids: tuple[bytes, ...]

    def encode(self) -> bytes:
        """``parameters u8 || level u8 || count u8 || (LEB128 bytes below || id)...``."""
        entries = (encode_unsigned(size) + each for size, each in zip(self.sizes, self.ids, strict=True))
        return bytes((self.parameters, self.level, len(self.ids))) + b"".join(entries)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one node that fills ``data``.

        Raises:
            CodecError: it is none: a level above 12, no entry or more than 128, an empty entry, bytes too many or few.
        """
        if len(data) > NODE_LIMIT:
            raise CodecError(f"a node of a chunk tree has {NODE_LIMIT} bytes at most")
        reader = Reader(data)
        parameters, level, count = reader.raw(3)
        if parameters not in PARAMETERS or level > MAX_LEVEL or not 1 <= count <= _MOST_ENTRIES:
            raise CodecError("a node of a chunk tree with parameters, a level or a count that is none")
        sizes, ids = [], []
        for _ in range(count):
            sizes.append(reader.unsigned())
            ids.append(reader.raw(ID_SIZE))
        if reader.rest() or not all(sizes):
            raise CodecError("a node of a chunk tree with an empty entry, or with bytes behind its entries")
        return cls(parameters, level, tuple(sizes), tuple(ids))


def node_id(encoded: bytes) -> bytes:
    """The 16 bytes that name a node."""
    return hashlib.blake2b(encoded, digest_size=ID_SIZE, person=_NODE).digest()


def index_limit(file_size: int) -> int:
    """Bytes that the nodes of a file may have together: 3 % of it and 64 KiB."""
    return file_size * 3 // 100 + (64 << 10)


class Tree:
    """The tree of a file that is here: its nodes by id, and its chunks in order, without an object for each.

    Attributes:
        parameters: with which it was cut.
        root: the root's id.
        file_size: bytes of the file.
        nodes: id -> encoded node.
        sizes: of the chunks in order, bytes.
        ids: of the chunks in order, 16 bytes each.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.root = b""
        self.file_size = 0
        self.nodes: dict[bytes, bytes] = {}
        self.sizes = array("I")
        self.ids = bytearray()

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk, in order."""
        offset = 0
        for at, size in enumerate(self.sizes):
            yield Chunk(offset, size, bytes(self.ids[at * ID_SIZE : (at + 1) * ID_SIZE]))
            offset += size


def build_tree(fd: int, file_size: int, parameters: Parameters | None = None) -> Tree:
    """Cut a file and build its tree; memory grows by about 20 bytes for each chunk.

    Args:
        parameters: those of its size unless told.

    Raises:
        ContentMismatchError: the file is empty, or shorter than ``file_size``.
        OSError: reading failed.
    """
    parameters = parameters or parameters_for(file_size)
    return tree_of(cut_file(fd, file_size, parameters), parameters)


def tree_of(chunks: Iterable[Chunk], parameters: Parameters) -> Tree:
    """The tree over chunks in order; what ``chunks`` raises comes out.

    Raises:
        ContentMismatchError: there are none.
    """
    tree = Tree(parameters)
    levels: list[_Level] = []
    for chunk in chunks:
        tree.sizes.append(chunk.size)
        tree.ids += chunk.id
        tree.file_size += chunk.size
        _grow(levels, tree, 0, (chunk.size, chunk.id))
    if not tree.sizes:
        raise ContentMismatchError("an empty file has no chunk tree")
    tree.root = _close(levels, tree)
    return tree


def stated_root(fd: int) -> bytes:
    """The root of an open file as a manifest states it: the parameters' number, then 16 bytes.

    Raises:
        ContentMismatchError: the file is empty, or became shorter meanwhile.
        OSError: reading failed.
    """
    tree = build_tree(fd, os.fstat(fd).st_size)
    return bytes([tree.parameters.number]) + tree.root


class _Level:
    """The nodes of one level: those that were made, and the one that entries are added to."""

    def __init__(self, tree: Tree, number: int) -> None:
        self._tree = tree
        self._number = number
        self._entries: list[tuple[int, bytes]] = []
        self.made = 0
        self.last: tuple[int, bytes] = (0, b"")
        """What stands for the last node that was made in the level above."""

    def add(self, size: int, entry: bytes) -> bool:
        """Add an entry; whether that ended a node."""
        self._entries.append((size, entry))
        count = len(self._entries)
        is_cut = count >= _FEWEST_ENTRIES and int.from_bytes(entry[:4], "little") % _ENDS_EVERY == 0
        return (is_cut or count == _MOST_ENTRIES) and self.end()

    def end(self) -> bool:
        """Make a node of the entries that are left; whether there were any."""
        if not self._entries:
            return False
        sizes, ids = zip(*self._entries, strict=True)
        encoded = TreeNode(self._tree.parameters.number, self._number, sizes, ids).encode()
        self.last = sum(sizes), node_id(encoded)
        self._tree.nodes[self.last[1]] = encoded
        self._entries.clear()
        self.made += 1
        return True


def _grow(levels: list[_Level], tree: Tree, at: int, entry: tuple[int, bytes]) -> None:
    """Add an entry to the level ``at``, and what stands for each node that ends by it to the level above."""
    while True:
        if at == len(levels):
            levels.append(_Level(tree, at))
        if not levels[at].add(*entry):
            return
        entry = levels[at].last
        at += 1


def _close(levels: list[_Level], tree: Tree) -> bytes:
    """End every level, from the lowest; the root is the node of the first level that has no other."""
    at = 0
    while True:
        ended = levels[at].end()
        if levels[at].made == 1:
            return levels[at].last[1]
        if ended:
            _grow(levels, tree, at + 1, levels[at].last)
        at += 1


class Walk:
    """The way through a tree that others have, from its root to its chunks: what to ask for, and what came of it.

    Nodes that are known here are not asked for, and each node is asked for once, wherever it stands. What comes is
    refused unless it was asked for, is of the level below its parent's, and has as many bytes below as its parent said.

    Args:
        root: its id.
        file_size: bytes of the file, or of its opened content.
        known: the nodes that are here, by id; None for one that is not.
        opened: the tree is one over opened content.

    Raises:
        CodecError: a node that is known here does not fit.
    """

    def __init__(
        self,
        root: bytes,
        file_size: int,
        known: Callable[[bytes], bytes | None] = lambda _: None,
        *,
        opened: bool = False,
    ) -> None:
        self._root = root
        self._file_size = file_size
        self._parameters = parameters_for(file_size, opened=opened)
        self._known = known
        self._nodes: dict[bytes, bytes] = {}
        self._stands: dict[bytes, tuple[int, int]] = {}
        self._missing: dict[bytes, tuple[int | None, int]] = {}
        self.received = 0
        """Bytes of all nodes that came."""
        self._expect([(root, None, file_size)])

    @property
    def nodes(self) -> Mapping[bytes, bytes]:
        """All nodes that are known so far, by their ids."""
        return self._nodes

    @property
    def missing(self) -> list[bytes]:
        """Ids of the nodes to ask for; empty when the tree is complete."""
        return list(self._missing)

    def add(self, encoded: bytes) -> None:
        """Take in a node.

        Raises:
            CodecError: it was not asked for, or does not fit, or the tree is larger than that of such a file can be.
        """
        name = node_id(encoded)
        if name not in self._missing:
            raise CodecError("a node that was not asked for")
        self.received += len(encoded)
        if self.received > index_limit(self._file_size):
            raise CodecError(f"the tree is larger than that of a file of {self._file_size} bytes can be")
        self._expect(self._enter(name, encoded))

    def finish(self) -> tuple[array[int], bytearray]:
        """Sizes and ids (16 bytes each) of every chunk in order; to be called when nothing is missing.

        Raises:
            CodecError: a chunk is larger than a cut can leave it, or smaller and not the file's last.
        """
        sizes, ids = array("I"), bytearray()
        limits, left = self._parameters, self._file_size
        for size, each in self._leaves():
            left -= size
            if size > limits.maximum or (size <= limits.minimum and left):
                raise CodecError(f"a chunk of {size} bytes, which no cut leaves")
            sizes.append(size)
            ids += each
        return sizes, ids

    def _leaves(self) -> Iterator[tuple[int, bytes]]:
        stack = [self._entries(self._root)]
        while stack:
            for level, size, name in stack[-1]:
                if level:
                    stack.append(self._entries(name))
                    break
                yield size, name
            else:
                stack.pop()

    def _entries(self, name: bytes) -> Iterator[tuple[int, int, bytes]]:
        node = TreeNode.decode(self._nodes[name])
        return ((node.level, size, each) for size, each in zip(node.sizes, node.ids, strict=True))

    def _expect(self, places: list[tuple[bytes, int | None, int]]) -> None:
        """Nodes stand at these places (id, level, bytes below); those that are known here are entered at once."""
        while places:
            name, level, size = places.pop()
            if name in self._nodes:
                _check_place(*self._stands[name], level, size)
                continue
            if self._missing.setdefault(name, (level, size)) != (level, size):
                raise CodecError("a node of the tree stands at two levels, or for two sizes")
            encoded = self._known(name)
            if encoded is not None and node_id(encoded) == name:
                places += self._enter(name, encoded)

    def _enter(self, name: bytes, encoded: bytes) -> list[tuple[bytes, int | None, int]]:
        """Take a node in; the places of its children."""
        node = TreeNode.decode(encoded)
        if node.parameters != self._parameters.number:
            raise CodecError(f"the tree was cut with parameters {node.parameters}, which are not those of its file")
        self._stands[name] = node.level, sum(node.sizes)
        _check_place(*self._stands[name], *self._missing[name])
        del self._missing[name]
        self._nodes[name] = encoded
        if node.level == 0:
            return []
        return [(each, node.level - 1, size) for size, each in zip(node.sizes, node.ids, strict=True)]


def _check_place(level: int, below: int, wanted: int | None, size: int) -> None:
    if wanted is not None and level != wanted:
        raise CodecError(f"a node of level {level} where one of level {wanted} belongs")
    if below != size:
        raise CodecError("a node of the tree is not of the size that its parent says")
