"""What each parser must do with any bytes: answer, or raise the errors that it documents, the same from both twins.

Each function takes bytes and returns nothing; whatever else it raises is a finding. `SEEDS` are inputs that pass the
first checks, from test vectors and builders. The functions know nothing of the fuzzer.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from pypatcher.artifact import Patch, PatchInfo, Region, _hashing_py, _sections_py, make_info
from pypatcher.artifact.fit import program_target
from pypatcher.artifact.locate import locate_region, scan_regions
from pypatcher.artifact.postcard import Reader
from pypatcher.artifact.sections import parse_elf, parse_elf_header
from pypatcher.artifact.verify import check_release
from pypatcher.dht import bencode, krpc
from pypatcher.discovery import Namespace
from pypatcher.discovery.announcement import decode_content, encode_content
from pypatcher.discovery.records import Record, decrypt_record, encrypt_record
from pypatcher.discovery.slots import Slot
from pypatcher.errors import ArtifactError, CodecError, KeyFileError, PatcherError, SettingError, VersionError
from pypatcher.install.trial import ProgramId, Start, Trial, TrialState, decode_state, encode_state
from pypatcher.keys import KeyPair, OwnerKey, parse_public_key
from pypatcher.node.cache import Cache
from pypatcher.node.report import Report, decode_report, encode_report
from pypatcher.transport.wire import check_auth, decode_patch_header, encode_acceptance
from pypatcher.version import Version
from tests.support.programs import with_comment, with_section, with_tail

__all__ = ["SEEDS", "TARGETS"]

KEY = KeyPair.from_seed(bytes(range(32)))
OWNER = OwnerKey(KEY.public)
INFO = make_info(Version(1, 2, 3), bytes(32), 1000, KEY)
SLOT = Slot(Namespace.ours("x86_64", OWNER), 29_000_000)
_NEEDLE = b"needle in hay"


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
    pure = {"_sections_c": _sections_py, "_hashing_c": _hashing_py}[name]
    ours, theirs = (_outcome(getattr(module, function), *arguments) for module in (pure, _twin(name)))
    if ours != theirs:
        raise AssertionError(f"{function}: the pure twin says {ours!r}, the compiled one {theirs!r}")
    return ours


def elf(data: bytes) -> None:
    """The ELF parser: both twins, then the whole way over a file."""
    header = _same("_sections_c", "parse_header", data[:64])
    if isinstance(header, tuple) and len(header) > 2:
        _same("_sections_c", "parse_sections", data[64:], header[1], header[2], len(data))
    for elf_class, little in ((32, True), (32, False), (64, True), (64, False)):
        _same("_sections_c", "parse_sections", data, elf_class, little, len(data))
    offsets = [int.from_bytes(data[at : at + 2], "little") for at in range(0, min(len(data), 64), 2)]
    _same("_sections_c", "section_names", data, offsets)
    with _file(data) as fd:
        for call, argument in ((parse_elf, fd), (parse_elf_header, data[:64])):
            _outcome(call, argument)


def location(data: bytes) -> None:
    """Where the region is, what a file is for, whether it is a release: every carrier."""
    with _file(data) as fd:
        for call in (locate_region, scan_regions, program_target):
            _outcome(call, fd)
        _outcome(lambda: check_release(fd, OWNER, None))
        _same("_hashing_c", "find_all", fd, _NEEDLE, 16)


def zip_comment(data: bytes) -> None:
    """A zipapp whose end, directory and comment are the fuzzer's."""
    seed = with_comment("1.2.3")
    with _file(seed[: len(seed) // 2] + data) as fd:
        for call in (locate_region, program_target):
            _outcome(call, fd)


def region(data: bytes) -> None:
    """176 bytes; what is read packs to the same bytes."""
    try:
        found = Region.unpack(data)
    except ArtifactError:
        return
    assert found.pack() == data


def postcard(data: bytes) -> None:
    """PatchInfo and Patch; numbers have one encoding, so what is read writes the same bytes."""
    try:
        info, rest = PatchInfo.from_postcard(data)
        assert info.to_postcard() + rest == data
    except (CodecError, VersionError):
        pass
    try:
        patch, rest = Patch.from_postcard(data)
        assert patch.to_postcard() + rest == data
    except (CodecError, VersionError, ArtifactError):
        pass
    reader = Reader(data)
    try:
        while True:
            reader.unsigned()
            reader.signed()
            reader.byte_string(64)
    except CodecError:
        pass


def bencoded(data: bytes) -> None:
    """Bencode; it has one encoding, so what is read writes the same bytes."""
    try:
        value = bencode.decode(data)
    except CodecError:
        return
    assert bencode.encode(value) == data


def krpc_message(data: bytes) -> None:
    """A datagram of the DHT, and everything that is taken out of it."""
    try:
        message = krpc.decode(data)
    except (CodecError, PatcherError):
        return
    values = getattr(message, "values", None) or getattr(message, "arguments", None) or {}
    for family in (4, 6):
        krpc.nodes_of(values, family)
        krpc.peers_of(values, family)
    krpc.token_of(values)
    krpc.item_of(values, b"salt")


def record(data: bytes) -> None:
    """A record, encrypted and not, and its content."""
    for call in (lambda: decrypt_record(SLOT, data), lambda: Record.unpack(data).verify(SLOT)):
        try:
            call()
        except PatcherError:
            continue
    try:
        decode_content(data)
    except (CodecError, VersionError):
        return


def framing(data: bytes) -> None:
    """The v0 exchange: request and answer."""
    assert check_auth(data, OWNER, 29_000_000) in (True, False)
    try:
        decode_patch_header(data, 1 << 20)
    except (CodecError, VersionError):
        return


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
        Cache(folder).load()
    finally:
        (folder / "node.json").unlink()
        folder.rmdir()


def texts(data: bytes) -> None:
    """Keys and versions as people and files write them."""
    text = data.decode("utf-8", "replace")
    for call, errors in ((parse_public_key, (KeyFileError, SettingError)), (Version.parse, (VersionError,))):
        try:
            call(text)
        except errors:
            continue


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        elf,
        location,
        zip_comment,
        region,
        postcard,
        bencoded,
        krpc_message,
        record,
        framing,
        state_files,
        texts,
    )
}


def _state() -> bytes:
    start = Start("boot", "start", 7, 8, "run", True)
    program = ProgramId(bytes(64), Version(1, 2, 3))
    state = TrialState(program, Version(1, 2, 3), trial=Trial(program, 1, 2, start)).refusing(bytes(64), "it crashed")
    return encode_state(state)


def _vectors(name: str) -> list[bytes]:
    """Every hexadecimal text in a file of test vectors."""
    found: list[bytes] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, str) and len(value) > 16:
            try:
                found.append(bytes.fromhex(value))
            except ValueError:
                return

    walk(json.loads((Path(__file__).parents[1] / "vectors" / name).read_text(encoding="utf-8")))
    return [data for data in found if len(data) < 2000]


_RECORD = Record.make(SLOT, KEY, encode_content(INFO, [("192.0.2.1", 4000), ("2001:db8::1", 4000)]))
_PROGRAMS = [with_section("1.2.3"), with_tail("1.2.3"), with_comment("1.2.3")]
_ID, _TID = b"i" * 20, b"abcd"

SEEDS: dict[str, list[bytes]] = {
    "elf": [*_PROGRAMS[:2], _PROGRAMS[0][:64]],
    "location": [*_PROGRAMS, _NEEDLE * 3],
    "zip_comment": [_PROGRAMS[2][-300:], _PROGRAMS[2]],
    "region": [INFO.to_region().pack()],
    "postcard": [INFO.to_postcard(), Patch(INFO, bytes(1176)).to_postcard(), *_vectors("rustpatcher.json")],
    "bencoded": [b"d1:ad2:id20:" + _ID + b"e1:q4:ping1:t4:abcd1:y1:qe", b"li1eli2eee", b"i-7e"],
    "krpc_message": [
        b"d1:ad2:id20:" + _ID + b"e1:q4:ping1:t4:abcd1:y1:qe",
        b"d1:rd2:id20:" + _ID + b"5:nodes26:" + _ID + b"\x01\x02\x03\x04\x05\x065:token4:tokne1:t4:abcd1:y1:re",
        b"d1:eli201e5:wronge1:t4:abcd1:y1:ee",
        b"d1:rd2:id20:" + _ID + b"6:valuesl6:\x01\x02\x03\x04\x05\x06ee1:t4:abcd1:y1:re",
        krpc.encode_failure(_TID, 203, "no"),
    ],
    "record": [_RECORD.pack(), encrypt_record(SLOT, _RECORD), _RECORD.content, *_vectors("topic-tracker-0.3.json")],
    "framing": [encode_acceptance(INFO, 1176), INFO.to_postcard() + b"\x98\x09", bytes(64)],
    "state_files": [
        _state(),
        encode_report(Report(1.0, 2.0, 3.0, 4, "error", 5.0, "blocked")),
        b'{"port": 1, "dht_nodes": ["192.0.2.1:1"], "good_peers": [], "staged": {"aa": "bb"}}',
    ],
    "texts": [b"xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y", b"1.2.3", b"1.2.3\n"],
}
