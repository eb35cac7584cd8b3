"""Two builds of the same source: which members differ, why as far as their bytes show it, and what mends that.

For people, before a release: a build that comes out the same each time moves only what the source changed. Nothing is
built here (``cli.check_build``), and nothing on a device depends on it.
"""

from __future__ import annotations

import enum
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pypatcher.artifact.members import Member, file_members, member_content
from pypatcher.artifact.replace import open_program
from pypatcher.errors import ArtifactError

__all__ = ["FIXED_ORDER_MODULE", "Cause", "Difference", "compare_builds", "has_fixed_order"]

FIXED_ORDER_MODULE = "pypatcher.__pyinstaller.fixed_order"
"""Is in a PyInstaller onefile with pypatcher in it if PYTHONHASHSEED was set when it was built."""
_OURS = "pypatcher.version"
_PIECE = 1 << 20


class Cause(enum.Enum):
    """Why a member differs, and what to do about it."""

    ORDER = (
        "the same parts in another order",
        "build with PYTHONHASHSEED=0, for Python walks through sets in another order at each start; and with "
        "PYTHONDONTWRITEBYTECODE=1 where only the first build after an installation differs",
    )
    CODE = (
        "compiled Python that differs",
        "build with PYTHONHASHSEED=0 and PYTHONDONTWRITEBYTECODE=1, and from a copy without __pycache__ folders",
    )
    DATE = (
        "the same content with other dates",
        "set all dates before packing (find FOLDER -exec touch -h -d @315532800 {} +), and SOURCE_DATE_EPOCH=315532800",
    )
    PACKED = ("the same content packed otherwise", "pack by one version of one tool, in one thread")
    FOLDER = (
        "it holds the path of the folder in which it was built",
        "build in the same folder each time; C: gcc -ffile-prefix-map=$PWD=. ; Rust: --remap-path-prefix",
    )
    ONE_ONLY = (
        "only one of the builds has it",
        "find out what packs it: a cache, or a file that a build leaves behind",
    )
    CONTENT = (
        "other content",
        "look for what changes between two runs: the time, a random number, a folder read unsorted, threads",
    )
    BETWEEN = ("bytes outside of all members", "set SOURCE_DATE_EPOCH=315532800, and pack in a fixed order")

    @property
    def what(self) -> str:
        """In a few words."""
        return self.value[0]

    @property
    def mend(self) -> str:
        """What to do."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Difference:
    """A member that is not the same in both; the name is empty for what lies in no member."""

    name: str
    cause: Cause


def compare_builds(first: Path, second: Path, folders: tuple[bytes, bytes]) -> list[Difference]:
    """How two builds differ; nothing if they are the same, byte for byte.

    Args:
        folders: in which each was built.

    Raises:
        ArtifactError: one of them cannot be read.
        OSError: reading failed.
    """
    with open_program(first) as one, open_program(second) as other:
        if _is_same(one, other):
            return []
        # Of several members of one name the last counts, as for most who unpack them.
        here = {member.name: member for member in file_members(one)}
        there = {member.name: member for member in file_members(other)}
        found = [Difference(name, Cause.ONE_ONLY) for name in sorted(here.keys() ^ there.keys())]
        if list(filter(there.__contains__, here)) != list(filter(here.__contains__, there)):
            found.append(Difference("", Cause.ORDER))
        for name in filter(there.__contains__, here):
            cause = _cause((one, here[name]), (other, there[name]), folders)
            found += [Difference(name, cause)] if cause else []
        return found or [Difference("", Cause.BETWEEN)]


def has_fixed_order(fd: int) -> bool | None:
    """Whether a onefile was built with PYTHONHASHSEED set; None where that cannot be told.

    PyInstaller reads pypatcher's hook when it packs pypatcher, and that leaves a mark. Of other programs it takes two
    builds to know.
    """
    try:
        names = [member.name.partition("/")[2] for member in file_members(fd) if member.is_code]
    except ArtifactError:
        return None
    return FIXED_ORDER_MODULE in names if _OURS in names else None


def _is_same(one: int, other: int) -> bool:
    at = 0
    while (piece := os.pread(one, _PIECE, at)) == os.pread(other, _PIECE, at):
        if not piece:
            return True
        at += len(piece)
    return False


def _cause(first: tuple[int, Member], second: tuple[int, Member], folders: tuple[bytes, bytes]) -> Cause | None:
    packed = [_packed(*each) for each in (first, second)]
    if packed[0] == packed[1]:
        return None
    content = [member_content(*each) for each in (first, second)]
    if content[0] == content[1]:
        is_data_same = packed[0][first[1].data - first[1].offset :] == packed[1][second[1].data - second[1].offset :]
        return Cause.DATE if is_data_same else Cause.PACKED
    if any(folder in data for folder, data in zip(folders, content, strict=True)):
        return Cause.FOLDER
    if first[1].is_code:
        return Cause.CODE
    return _cause_inside(*content)


def _packed(fd: int, member: Member) -> bytes:
    return os.pread(fd, member.size, member.offset)


def _cause_inside(first: bytes, second: bytes) -> Cause:
    """For a zip file in a member, such as the standard library of a onefile."""
    try:
        one, other = list(_parts(first)), list(_parts(second))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, RuntimeError, EOFError, OSError):
        return Cause.CONTENT
    if one == other:
        return Cause.DATE
    if sorted(one) == sorted(other):
        return Cause.ORDER
    return Cause.CODE if all(name.endswith(".pyc") for name, _ in set(one) ^ set(other)) else Cause.CONTENT


def _parts(data: bytes) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        yield from ((each.filename, each.CRC) for each in archive.infolist())
