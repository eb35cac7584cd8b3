"""What of a release is here, chunk by chunk: in old files, in what an earlier download left, in what a peer sends.

protocol.md "Only what is new". Every chunk is looked at before it counts, wherever it comes from. Not here: the tree by
which that is told (``artifact``), and who is asked for the rest (``swarm``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from pypatcher.artifact.chunks import leaf_id
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.errors import PeerError
from pypatcher.transfer.exchange import Parts
from pypatcher.transfer.taking import CHUNK
from pypatcher.transfer.v1.old_files import Files
from pypatcher.transfer.v1.plan import Plan, Run

__all__ = ["Checked", "copy_run", "right_ones"]

_LOOK = 1 << 20
"""Bytes of an earlier download that are looked at at once."""


class Checked:
    """Puts the pieces of an answer together to chunks, and checks each."""

    def __init__(self, plan: Plan, runs: Sequence[Run]) -> None:
        self._plan = plan
        self._runs = list(reversed(runs))
        self._data = bytearray()
        self._good = 0
        self._begin()

    def _begin(self) -> None:
        run = self._runs[-1] if self._runs else Run(0, 0, 0, 0)
        self._first, self._number, self._offset = run.first, run.first, run.offset

    @property
    def is_complete(self) -> bool:
        """Whether everything came."""
        return not self._runs

    def so_far(self) -> Iterator[tuple[Run, bytes]]:
        """What is right of a block that was not completed; nothing more can be fed then."""
        if self._good:
            yield Run(self._first, self._number, self._offset, self._good), bytes(self._data[: self._good])
        self._runs.clear()

    def feed(self, offset: int, piece: bytes, enough: int = CHUNK) -> Iterator[tuple[Run, bytes]]:
        """Blocks of whole chunks that are right, of ``enough`` bytes or the last of their run.

        Raises:
            PeerError: a chunk is not what the tree says, or a range was left out.
        """
        if not self._runs or offset != self._offset + len(self._data):
            raise PeerError("the peer does not have what it said to have")
        self._data += piece
        while self._runs:
            run = self._runs[-1]
            size, name = self._plan.chunk(self._number)
            if len(self._data) - self._good < size:
                return
            if leaf_id(bytes(self._data[self._good : self._good + size])) != name:
                raise PeerError("the peer sent bytes that are not those of the release")
            self._good += size
            self._number += 1
            is_over = self._number == run.last
            if is_over or self._good >= enough:
                block = bytes(self._data[: self._good])
                done = Run(self._first, self._number, self._offset, self._good)
                del self._data[: self._good]
                self._first, self._offset, self._good = self._number, self._offset + len(block), 0
                if is_over:
                    self._runs.pop()
                    self._begin()
                yield done, block
                if is_over:
                    return


def right_ones(plan: Plan, parts: Parts, number: int, offset: int) -> tuple[list[int], int, int]:
    """Of some chunks from there on those that are right; the next one, and where it begins."""
    good, end = list[int](), offset + _LOOK
    while number < len(plan) and offset < end:
        size, name = plan.chunk(number)
        with contextlib.suppress(OSError):
            if leaf_id(parts.read(size, offset)) == name:
                good.append(number)
        number, offset = number + 1, offset + size
    return good, number, offset


def copy_run(plan: Plan, old: OldChunks, files: Files, parts: Parts, run: Run) -> Run:
    """Copy chunks out of an old file, as far as they are what they were; those that are."""
    which, start = old.locate(run.place)
    fd, _ = files[which]
    good = _right_of(plan, run, lambda size, offset: os.pread(fd, size, start + offset - run.offset))
    if good.size:
        parts.copy_part(fd, start, run.offset, good.size)
        # Somebody may have written to the old file in between, and what counts is given to others.
        good = _right_of(plan, good, parts.read)
    return good


def _right_of(plan: Plan, run: Run, read: Callable[[int, int], bytes]) -> Run:
    """Of chunks that follow each other those before the first that is wrong."""
    number, good = run.first, 0
    with contextlib.suppress(OSError):
        while number < run.last:
            size, name = plan.chunk(number)
            if leaf_id(read(size, run.offset + good)) != name:
                break
            number, good = number + 1, good + size
    return Run(run.first, number, run.offset, good)
