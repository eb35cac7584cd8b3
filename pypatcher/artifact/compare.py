"""What devices with one file fetch of another: which ranges are new to them, and which members make them.

protocol.md "The chunk tree", "Opened streams". For people, before a release. Counted are the chunks that the old file
lacks, deflated where that is shorter, and the tree nodes that the old file's tree lacks. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pypatcher.artifact.chunks import PARAMETERS, Chunk
from pypatcher.artifact.deflate import PIECE, deflate
from pypatcher.artifact.members import Member, file_members
from pypatcher.artifact.new_content import NewContent, is_worth_opening
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.artifact.opened import Content, Read, open_file, stated_opened_root
from pypatcher.artifact.program import check_size
from pypatcher.artifact.replace import open_program
from pypatcher.artifact.tree import build_tree
from pypatcher.errors import ContentMismatchError
from pypatcher.file_parts import read_part

__all__ = ["Comparison", "compare_files"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What it takes to make the new file of the old one.

    Attributes:
        old_size, new_size: bytes of the files.
        ranges: offset and bytes of what the old file does not have, in the new one.
        packed: bytes of all ranges, each zlib where that is shorter.
        index: bytes of the nodes of the new file's tree that the old one's does not have.
        opened: bytes that a device fetches in all where it opens zlib streams; None where it does not.
        members: members of the new file with the bytes of it that are new, those with the most first.
    """

    old_size: int
    new_size: int
    ranges: tuple[tuple[int, int], ...]
    packed: int
    index: int
    opened: int | None
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
        missing = [chunk for chunk in after.chunks() if chunk.id not in here]
        ranges = _joined(missing)
        index = _lacking(after.nodes, before.nodes)
        members = file_members(new_fd)
        changed = ((member, sum(_overlap(member, each) for each in ranges)) for member in members)
        return Comparison(
            old_size,
            new_size,
            tuple(ranges),
            _packed(partial(read_part, new_fd), ranges),
            index,
            _by_opening(old_fd, new_fd, missing, index) if is_worth_opening(sum(size for _, size in ranges)) else None,
            tuple(sorted((each for each in changed if each[1]), key=lambda each: -each[1])),
        )


def _by_opening(old_fd: int, new_fd: int, missing: Sequence[Chunk], index: int) -> int | None:
    """Bytes that move where chunks are made of opened content, beside the index of the file that is counted already."""
    stated = stated_opened_root(new_fd)
    if stated is None:
        return None
    parameters, new_size = PARAMETERS[stated[0]], check_size(new_fd)
    streams, after = open_file(new_fd, new_size, parameters)
    try:
        old_streams, before = open_file(old_fd, check_size(old_fd), parameters)
    except ContentMismatchError:
        return None
    old = OldChunks(parameters)
    old.add_tree(before, 0)
    content = Content(partial(read_part, new_fd), streams)
    made = NewContent(after.sizes, after.ids, old, Content(partial(read_part, old_fd), old_streams))
    made.follow(streams)
    chosen, needed = made.choose(missing)
    size = content.size - streams.body
    fetched = [made.chunk(number) for number in sorted({*needed, *made.lacking(size, streams.body)})]
    rest = {chunk.offset: chunk for chunk in missing}
    for chunk in chosen:
        del rest[chunk.offset]
    return (
        index
        + _lacking(after.nodes, before.nodes)
        + _packed(content.read, _joined(fetched))
        + _packed(partial(read_part, new_fd), _joined(rest.values()))
    )


def _joined(chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
    """Offset and bytes, those that follow each other as one."""
    ranges: list[tuple[int, int]] = []
    for chunk in chunks:
        if ranges and sum(ranges[-1]) == chunk.offset:
            ranges[-1] = ranges[-1][0], ranges[-1][1] + chunk.size
        else:
            ranges.append((chunk.offset, chunk.size))
    return ranges


def _lacking(nodes: Mapping[bytes, bytes], known: Mapping[bytes, bytes]) -> int:
    """Bytes of the nodes that are not known."""
    return sum(len(node) for name, node in nodes.items() if name not in known)


def _packed(read: Read, ranges: Iterable[tuple[int, int]]) -> int:
    """Bytes of these ranges in pieces, as they are given."""
    return sum(
        len(deflate(read(min(PIECE, offset + size - at), at)))
        for offset, size in ranges
        for at in range(offset, offset + size, PIECE)
    )


def _overlap(member: Member, new: tuple[int, int]) -> int:
    return max(0, min(member.offset + member.size, new[0] + new[1]) - max(member.offset, new[0]))
