"""The 176 bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.region import REGION_SIZE, marker, pack_region, template, unpack_region
from pypatcher.errors import RegionError
from pypatcher.version import Version
from tests.support.programs import VECTORS

numbers = st.integers(0, 99999)
versions = st.builds(Version, numbers, st.integers(0, 9999), st.integers(0, 9999))


def test_the_marker_is_the_one_of_design() -> None:
    words = b"RUSTPATCHER", b"EMBED", b"BOUNDS"
    assert marker() == b"\x17\x42" + b"\x42".join(words) + b"\x42\x17"
    assert len(marker()) == 28


@pytest.mark.parametrize(
    "vector", VECTORS["files"], ids=lambda vector: f"{vector['version']}-{vector['region_offset']}"
)
def test_regions_of_the_rust_program_read_and_pack_to_the_same_bytes(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["region"])
    info = unpack_region(data)
    assert info == PatchInfo(
        Version.parse(vector["version"]),
        int(vector["size"]),
        bytes.fromhex(vector["hash"]),
        bytes.fromhex(vector["signature"]),
    )
    assert pack_region(info) == data


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1), st.binary(min_size=64, max_size=64), versions)
def test_what_is_packed_reads_back(digest: bytes, size: int, signature: bytes, version: Version) -> None:
    info = PatchInfo(version, size, digest, signature)
    assert len(pack_region(info)) == REGION_SIZE
    assert unpack_region(pack_region(info)) == info


@given(st.binary(max_size=400))
def test_other_bytes_are_no_region(data: bytes) -> None:
    with pytest.raises(RegionError):
        unpack_region(data)


def test_every_changed_byte_of_markers_and_padding_is_refused() -> None:
    good = template(Version(1, 2, 3))
    for at in (*range(28), *range(132, REGION_SIZE)):
        bad = bytearray(good)
        bad[at] ^= 0x80
        with pytest.raises(RegionError):
            unpack_region(bytes(bad))


@pytest.mark.parametrize("text", [b"", b"1.2", b"01.2.3", b"1.2.3\0x", b"1.2.3 ", b" 1.2.3", b"1.2.-3", b"1.2.3-rc1"])
def test_version_text_must_be_canonical(text: bytes) -> None:
    data = bytearray(template(Version(1, 2, 3)))
    data[132:148] = text.ljust(16, b"\0")
    with pytest.raises(RegionError, match="damaged"):
        unpack_region(bytes(data))
