"""Files that others wrote: programs as they come from peers, and the state files that a device finds at its start.

Each function takes any bytes and returns nothing; whatever it raises is a finding. See ``targets``.
"""

from __future__ import annotations

import importlib
import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from unittest import mock

from pypatcher.artifact import _chunks_py, _hashing_py, _sections_py
from pypatcher.artifact.chunks import PARAMETERS
from pypatcher.artifact.fit import program_target
from pypatcher.artifact.locate import locate_region, scan_regions
from pypatcher.artifact.members import file_members
from pypatcher.artifact.opened import Content, Streams, open_file
from pypatcher.artifact.region import pack_region, unpack_region
from pypatcher.artifact.sections import parse_elf, parse_elf_header
from pypatcher.artifact.verify import check_release
from pypatcher.errors import ArtifactError, CodecError, KeyFileError, SettingError, VersionError
from pypatcher.file_parts import read_part
from pypatcher.install.trial import decode_state, encode_state
from pypatcher.keys import KeyPair, OwnerKey, parse_public_key
from pypatcher.node.cache import Cache
from pypatcher.node.report import decode_report, encode_report
from pypatcher.version import Version
from tests.support.programs import bundle, with_comment

__all__ = [
    "NEEDLE",
    "OPENED_LIMIT",
    "OWNER",
    "cuts",
    "elf",
    "fields",
    "location",
    "members",
    "opened",
    "state_files",
    "stream_table",
    "zip_comment",
    "zip_start",
]

OWNER = OwnerKey(KeyPair.from_seed(bytes(range(32))).public)
NEEDLE = b"needle in hay"
OPENED_LIMIT = 1 << 18
"""Bytes that a stream holds at most: those of the code are more than the fuzzer lets anybody allocate."""


@contextmanager
def _file(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def _twin(name: str) -> ModuleType:
    """The compiled twin; there is nothing to compare without one."""
    return importlib.import_module(f"pypatcher.artifact.{name}")


def _outcome(call: Callable[..., object], *arguments: object) -> object:
    try:
        return call(*arguments)
    except (ArtifactError, ValueError) as error:
        return type(error), str(error)


def _same(name: str, function: str, *arguments: object) -> object:
    pure = {"_sections_c": _sections_py, "_hashing_c": _hashing_py, "_chunks_c": _chunks_py}[name]
    ours, theirs = (_outcome(getattr(module, function), *arguments) for module in (pure, _twin(name)))
    if ours != theirs:
        raise AssertionError(f"{function}: the pure twin says {ours!r}, the compiled one {theirs!r}")
    return ours


def elf(data: bytes) -> None:
    """The ELF parser: both twins, then the whole way over a file."""
    header = _same("_sections_c", "parse_header", data[:64])
    if isinstance(header, tuple) and len(header) > 2:
        table = header[5] if header[5] < len(data) else 64
        _same("_sections_c", "parse_sections", data[table:], header[1], header[2], len(data))
    for elf_class, little in ((32, True), (32, False), (64, True), (64, False)):
        _same("_sections_c", "parse_sections", data, elf_class, little, len(data))
    offsets = [int.from_bytes(data[at : at + 2], "little") for at in range(0, min(len(data), 64), 2)]
    _same("_sections_c", "section_names", data, offsets)
    with _file(data) as fd:
        for call, argument in ((parse_elf, fd), (parse_elf_header, data[:64])):
            _artifact_errors_only(call, argument)


def location(data: bytes) -> None:
    """Where the region is, what a file is for, whether it is a release: every carrier."""
    with _file(data) as fd:
        for call in (
            locate_region,
            scan_regions,
            program_target,
            lambda file: check_release(file, OWNER, None),
            file_members,
        ):
            _artifact_errors_only(call, fd)
        _same("_hashing_c", "find_all", fd, NEEDLE, 16)


def cuts(data: bytes) -> None:
    """Where chunks are cut: both twins, with limits that short inputs reach."""
    gear = array("Q", range(1 << 60, (1 << 60) + 256))
    for limits in (PARAMETERS[1].limits, (2, 4, 9, 61, 63)):
        for start in (0, len(data) // 2, len(data), len(data) + 1):
            _same("_chunks_c", "find_cut", memoryview(data), start, gear, limits)


@cache
def zip_start() -> bytes:
    """The first half of a zipapp, which ``zip_comment`` puts before its bytes."""
    seed = with_comment("1.2.3")
    return seed[: len(seed) // 2]


def zip_comment(data: bytes) -> None:
    """A zipapp whose end, directory and comment are the fuzzer's."""
    with _file(zip_start() + data) as fd:
        for call in (locate_region, program_target):
            _artifact_errors_only(call, fd)


def members(data: bytes) -> None:
    """The members of a onefile, and of its archive of modules, as ``compare`` names them."""
    for content in (data, bundle({"app": b"x", "PYZ.pyz": data})):
        with _file(content) as fd:
            _artifact_errors_only(file_members, fd)


def opened(data: bytes) -> None:
    """A file's zlib streams: what its opened content is anywhere, and that its own table says where they are."""
    with _file(data) as fd, mock.patch("pypatcher.artifact.opened.STREAM_LIMIT", OPENED_LIMIT):
        try:
            found, tree = open_file(fd, len(data), PARAMETERS[129])
        except ArtifactError:
            return
        content = Content(partial(read_part, fd), found)
        whole = content.read(content.size, 0)
        assert tree.file_size == content.size == len(whole)
        assert Streams.decode(whole[found.body :], len(data), len(whole)).encode() == whole[found.body :]
        for at in range(0, len(whole), 997):
            assert content.read(min(500, len(whole) - at), at) == whole[at : at + 500]


def stream_table(data: bytes) -> None:
    """A table of streams that a peer sent, of a file of so many bytes as the first four say."""
    file_size, table = int.from_bytes(data[:4]), data[4:]
    for content_size in (file_size + len(table), int.from_bytes(data[4:8])):
        try:
            found = Streams.decode(table, file_size, content_size)
        except CodecError:
            continue
        assert found.encode() == table
        assert list(found.elements(0, file_size)) or not file_size
        assert list(found.parts(0, found.body)) or not found.body


def state_files(data: bytes) -> None:
    """trial.json, node.json of the cache and of the state folder: anything reads as something or as nothing."""
    state = decode_state(data)
    if state is not None:
        assert decode_state(encode_state(state)) == state
    report = decode_report(data)
    if report is not None:
        assert decode_report(encode_report(report)) == report
    folder = Path(f"/dev/shm/pypatcher-fuzz-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    try:
        (folder / "node.json").write_bytes(data)
        memory = Cache(folder).load()
        Cache(folder).save(memory)
        assert Cache(folder).load() == memory
    finally:
        (folder / "node.json").unlink()
        folder.rmdir()


def fields(data: bytes) -> None:
    """A region's 176 bytes, keys and versions as people and files write them; what is read writes the same."""
    with suppress(ArtifactError):
        assert pack_region(unpack_region(data)) == data
    text = data.decode("utf-8", "replace")
    with suppress(KeyFileError, SettingError):
        assert len(parse_public_key(text)) == 32
    with suppress(VersionError):
        assert str(Version.parse(text)) == text


def _artifact_errors_only(call: Callable[..., object], argument: object) -> None:
    """A refusal of a file is an ``ArtifactError``; any other would end whoever reads it."""
    try:
        call(argument)
    except ArtifactError:
        return
