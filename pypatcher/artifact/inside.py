"""Which parts of pypatcher a finished program contains, as far as its bytes show: for people, never for a decision.

A zipapp's members are read; of anything else the file itself and every zlib stream in it, which is how PyInstaller
packs code. Nuitka packs by zstd, which is not looked into: then nothing is found.
"""

from __future__ import annotations

import mmap
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pypatcher.errors import KeyFileError
from pypatcher.keys import OwnerKey, parse_public_key

__all__ = ["Inside", "foreign_keys", "look_inside"]

_WORD = rb"[ybndrfg8ejkmcpqxot1uwisza345h769]{52}"
_KEY = re.compile(
    # As text, and as a constant in compiled Python: type (short ASCII, interned or not), length 52, then the letters.
    rb"(?:(?<![0-9A-Za-z])" + _WORD + rb"(?![0-9A-Za-z])|(?<=[zZ\xfa\xda]4)" + _WORD + rb")"
)
_OURS = re.compile(rb"pypatcher[./](?:app|node|install)\b|^\s*(?:import|from) pypatcher\b", re.MULTILINE)
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_STREAM_LIMIT = 64 << 20
_PIECE = 1 << 15


@dataclass(frozen=True, slots=True)
class Inside:
    """What was found: whether the program has pypatcher in it, and every public key that it might trust."""

    updates_itself: bool
    keys: frozenset[OwnerKey]


def look_inside(fd: int) -> Inside:
    """Look at the program in an open file.

    Raises:
        OSError: reading failed.
    """
    ours, keys = False, set()
    for content in _contents(fd):
        if content[:17] == b"Metadata-Version:":
            continue  # a package's own description, which may hold any sample
        ours = ours or _OURS.search(content) is not None
        for text in set(_KEY.findall(content)):
            try:
                keys.add(parse_public_key(text.decode("ascii")))
            except KeyFileError:
                continue  # a word of 52 letters
    return Inside(ours, frozenset(keys))


def foreign_keys(fd: int, owner: OwnerKey) -> frozenset[OwnerKey]:
    """The keys that a program carries which has pypatcher in it, if ``owner``, who signed it, is none of them."""
    found = look_inside(fd)
    return found.keys if found.updates_itself and owner not in found.keys else frozenset()


def _contents(fd: int) -> Iterator[bytes | mmap.mmap]:
    size = os.fstat(fd).st_size
    if not size:
        return
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as data:
        yield data
        members = list(_members(fd))
        yield from members
        if not members:
            yield from _streams(data)


def _members(fd: int) -> Iterator[bytes]:
    with os.fdopen(os.dup(fd), "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    if member.file_size <= _STREAM_LIMIT and member.filename.endswith((".py", ".pyc", ".toml")):
                        yield member.filename.encode() + b"\n" + archive.read(member)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
            return


def _streams(data: mmap.mmap) -> Iterator[bytes]:
    position = 0
    while (found := _ZLIB.search(data, position)) is not None:
        content, end = _inflate(data, found.start())
        position = max(end, found.start() + 1)
        if content:
            yield content


def _inflate(data: mmap.mmap, start: int) -> tuple[bytes, int]:
    """The content of the zlib stream at ``start`` and where it ends; nothing if there is none."""
    inflate = zlib.decompressobj()
    pieces: list[bytes] = []
    produced, position = 0, start
    while not inflate.eof and position < len(data) and produced < _STREAM_LIMIT:
        fed = data[position : position + _PIECE]
        try:
            pieces.append(inflate.decompress(fed))
        except zlib.error:
            return b"", start
        produced += len(pieces[-1])
        position += len(fed)
    return b"".join(pieces), position - len(inflate.unused_data)
