"""PatchInfo and Patch, against what the Rust program writes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.patch import Patch, PatchInfo, make_info
from pypatcher.artifact.region import pack_region, unpack_region
from pypatcher.errors import CodecError, SignatureMismatchError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.version import Version
from tests.support.programs import VECTORS, vector_file

versions = st.builds(Version, st.integers(0, 99999), st.integers(0, 9999), st.integers(0, 9999))
infos = st.builds(
    PatchInfo,
    versions,
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
)
HAS_VERSION = [vector for vector in VECTORS["patch_info"] if min(vector["version"]) >= 0]
IMPOSSIBLE = [vector for vector in VECTORS["patch_info"] if min(vector["version"]) < 0]


@pytest.mark.parametrize(
    "vector", VECTORS["files"], ids=lambda vector: f"{vector['version']}-{vector['region_offset']}"
)
def test_hash_signature_and_region_are_what_the_rust_program_writes(vector: dict[str, Any]) -> None:
    data, at = vector_file(vector), vector["region_offset"]
    assert hashlib.sha512(data).hexdigest() == vector["file_sha512"]
    body = data[:at] + data[at + 176 :]
    key = KeyPair.from_seed(bytes.fromhex(vector["owner_seed"]))
    info = make_info(Version.parse(vector["version"]), hashlib.sha512(body).digest()[:32], len(body), key)
    assert pack_region(info).hex() == vector["region"]
    assert info.signature.hex() == vector["signature"]
    assert info.to_postcard().hex() == vector["patch_info_postcard"]
    assert unpack_region(bytes.fromhex(vector["region"])) == info
    info.verify(OwnerKey(key.public))


@pytest.mark.parametrize("vector", HAS_VERSION, ids=lambda vector: str(vector["size"]))
def test_patch_info_is_the_rust_postcard(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["postcard"])
    info, rest = PatchInfo.from_postcard(data)
    assert rest == b""
    assert info.size == int(vector["size"])
    assert [info.version.major, info.version.minor, info.version.patch] == vector["version"]
    assert info.hash.hex() == vector["hash"]
    assert info.signature.hex() == vector["signature"]
    assert info.to_postcard() == data


@pytest.mark.parametrize("vector", IMPOSSIBLE, ids=lambda vector: str(vector["version"]))
def test_negative_versions_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="version"):
        PatchInfo.from_postcard(bytes.fromhex(vector["postcard"]))


@pytest.mark.parametrize("vector", VECTORS["patch"], ids=lambda vector: str(vector["data_length"]))
def test_patch_is_the_rust_postcard(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["postcard"])
    patch, rest = Patch.from_postcard(data)
    assert rest == b""
    assert len(patch.data) == vector["data_length"]
    assert patch.info.to_postcard().hex() == vector["info_postcard"]
    assert patch.to_postcard() == data


def test_bytes_after_a_patch_info_are_handed_back() -> None:
    data = bytes.fromhex(VECTORS["trailing"]["bytes"])
    info, rest = PatchInfo.from_postcard(data)
    assert rest
    assert info.to_postcard() + rest == data


@given(infos)
def test_any_patch_info_reads_back(info: PatchInfo) -> None:
    assert PatchInfo.from_postcard(info.to_postcard() + b"hints") == (info, b"hints")
    assert unpack_region(pack_region(info)) == info


@given(infos, st.binary(max_size=300))
def test_any_patch_reads_back(info: PatchInfo, data: bytes) -> None:
    assert Patch.from_postcard(Patch(info, data).to_postcard()) == (Patch(info, data), b"")


@given(st.binary(max_size=250))
def test_hostile_bytes_read_or_raise_codec_errors_only(data: bytes) -> None:
    for kind in (PatchInfo, Patch):
        try:
            value, rest = kind.from_postcard(data)
        except CodecError:
            continue
        assert value.to_postcard() + rest == data


@given(infos, st.data())
def test_a_truncated_patch_info_is_refused(info: PatchInfo, data: st.DataObject) -> None:
    encoded = info.to_postcard()
    with pytest.raises(CodecError):
        PatchInfo.from_postcard(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_the_signature_covers_version_hash_and_size(key: KeyPair) -> None:
    owner = OwnerKey(key.public)
    info = make_info(Version(1, 2, 3), bytes(32), 1000, key)
    assert info.is_signed_by(owner)
    for other in (
        PatchInfo(Version(1, 2, 4), info.size, info.hash, info.signature),
        PatchInfo(info.version, 1001, info.hash, info.signature),
        PatchInfo(info.version, info.size, b"\1" + bytes(31), info.signature),
        PatchInfo(info.version, info.size, info.hash, b"\1" + info.signature[1:]),
    ):
        with pytest.raises(SignatureMismatchError):
            other.verify(owner)
    with pytest.raises(SignatureMismatchError):
        info.verify(OwnerKey(KeyPair.from_seed(bytes(32)).public))


@pytest.mark.parametrize(
    "values",
    [(bytes(31), bytes(64), 0), (bytes(32), bytes(65), 0), (bytes(32), bytes(64), -1), (bytes(32), bytes(64), 1 << 64)],
)
def test_fields_of_another_size_are_refused(values: tuple[bytes, bytes, int]) -> None:
    digest, signature, size = values
    with pytest.raises(CodecError):
        PatchInfo(Version(1, 0, 0), size, digest, signature)
