"""Which chunks lie in files that are here, and where: what of a new file need not be fetched.

protocol.md "The chunk tree". A table of numbers, without an object for each chunk: about 50 bytes for one. Nothing here
is believed later: whoever copies a chunk looks at its bytes again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from pypatcher.artifact.chunks import ID_SIZE, Parameters
from pypatcher.artifact.tree import Tree, build_tree

__all__ = ["NOWHERE", "OldChunks"]

NOWHERE = -1
_FEWEST_SLOTS = 1 << 10


class OldChunks:
    """Chunks by id, of any number of files, which count as one row of bytes.

    Args:
        parameters: how the new file is cut.

    Attributes:
        nodes: id -> encoded node, of the trees of all files.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.nodes: dict[bytes, bytes] = {}
        self._files: list[int] = []
        self._starts: list[int] = []
        self._end = 0
        self._ids = bytearray()
        self._places = array("Q")
        self._slots = array("I", bytes(4 * _FEWEST_SLOTS))

    def add(self, fd: int, size: int, number: int) -> None:
        """Cut the first ``size`` bytes of an open file, and know its chunks from now on; ``number`` names the file.

        Raises:
            ContentMismatchError: it is empty, or shorter.
            OSError: it cannot be read.
        """
        self.add_tree(build_tree(fd, size, self._parameters), number)

    def add_tree(self, tree: Tree, number: int) -> None:
        """The same of a file whose tree is known; with it alone, places are offsets in it."""
        self.nodes |= tree.nodes
        self._make_room(len(self._places) + len(tree.sizes))
        for chunk in tree.chunks():
            slot = self._slot(chunk.id)
            if not self._slots[slot]:
                self._ids += chunk.id
                self._places.append(self._end + chunk.offset)
                self._slots[slot] = len(self._places)
        self._files.append(number)
        self._starts.append(self._end)
        # Nothing follows from one file into the next.
        self._end += tree.file_size + 1

    def find(self, name: bytes) -> int:
        """Where the chunk of that id begins, in the row of all files; ``NOWHERE`` if it is in none."""
        number = self._slots[self._slot(name)]
        return self._places[number - 1] if number else NOWHERE

    def locate(self, place: int) -> tuple[int, int]:
        """Of a place in the row the file's number, and the offset in it."""
        which = bisect_right(self._starts, place) - 1
        return self._files[which], place - self._starts[which]

    def _slot(self, name: bytes) -> int:
        """Of the table the slot that has this chunk, or the free one that it belongs to."""
        mask = len(self._slots) - 1
        slot = int.from_bytes(name[:8], "little") & mask
        while (number := self._slots[slot]) and self._ids[(number - 1) * ID_SIZE : number * ID_SIZE] != name:
            slot = slot + 1 & mask
        return slot

    def _make_room(self, chunks: int) -> None:
        """At most half of the slots are taken."""
        slots = len(self._slots)
        while slots < 2 * chunks:
            slots *= 2
        if slots == len(self._slots):
            return
        self._slots = array("I", bytes(4 * slots))
        for number in range(1, len(self._places) + 1):
            self._slots[self._slot(bytes(self._ids[(number - 1) * ID_SIZE : number * ID_SIZE]))] = number
