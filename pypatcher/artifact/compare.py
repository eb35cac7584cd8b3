"""What devices with one file fetch of another: which ranges are new to them, and which members make them.

protocol.md "The chunk tree". For people, before a release. Counted are the chunks that the old file lacks, deflated
where that is shorter, and the tree nodes that the old file's tree lacks. Nothing is sent.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pypatcher.artifact.deflate import PIECE, deflate
from pypatcher.artifact.members import Member, file_members
from pypatcher.artifact.program import check_size
from pypatcher.artifact.replace import open_program
from pypatcher.artifact.tree import build_tree

__all__ = ["Comparison", "compare_files"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What it takes to make the new file of the old one.

    Attributes:
        old_size, new_size: bytes of the files.
        ranges: offset and bytes of what the old file does not have, in the new one.
        packed: bytes of all ranges, each zlib where that is shorter.
        index: bytes of the nodes of the new file's tree that the old one's does not have.
        members: members of the new file with the bytes of it that are new, those with the most first.
    """

    old_size: int
    new_size: int
    ranges: tuple[tuple[int, int], ...]
    packed: int
    index: int
    members: tuple[tuple[Member, int], ...]

    @property
    def moved(self) -> int:
        """Bytes that a device fetches."""
        return self.packed + self.index

    @property
    def elsewhere(self) -> int:
        """Bytes of the ranges that lie in no member: tables, headers, what stands between."""
        return max(0, sum(size for _, size in self.ranges) - sum(new for _, new in self.members))


def compare_files(old: Path, new: Path) -> Comparison:
    """Compare two programs, as they would be signed.

    Raises:
        ArtifactError: one of them cannot be read, is empty, or larger than a signed file may be.
        OSError: reading failed.
    """
    with open_program(old) as old_fd, open_program(new) as new_fd:
        old_size, new_size = check_size(old_fd), check_size(new_fd)
        after = build_tree(new_fd, new_size)
        # Cut as the new one is, whatever its own size: so does a device.
        before = build_tree(old_fd, old_size, after.parameters)
        here = {chunk.id for chunk in before.chunks()}
        ranges: list[tuple[int, int]] = []
        for chunk in after.chunks():
            if chunk.id in here:
                continue
            if ranges and sum(ranges[-1]) == chunk.offset:
                ranges[-1] = ranges[-1][0], ranges[-1][1] + chunk.size
            else:
                ranges.append((chunk.offset, chunk.size))
        members = file_members(new_fd)
        changed = ((member, sum(_overlap(member, each) for each in ranges)) for member in members)
        return Comparison(
            old_size,
            new_size,
            tuple(ranges),
            sum(_packed(new_fd, *each) for each in ranges),
            sum(len(node) for name, node in after.nodes.items() if name not in before.nodes),
            tuple(sorted((each for each in changed if each[1]), key=lambda each: -each[1])),
        )


def _packed(fd: int, offset: int, size: int) -> int:
    """In pieces, as they are given."""
    pieces = range(offset, offset + size, PIECE)
    return sum(len(deflate(os.pread(fd, min(PIECE, offset + size - at), at))) for at in pieces)


def _overlap(member: Member, new: tuple[int, int]) -> int:
    return max(0, min(member.offset + member.size, new[0] + new[1]) - max(member.offset, new[0]))
