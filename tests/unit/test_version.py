"""Versions: one text each, one order, one integer that DHT nodes compare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.errors import VersionError
from pypatcher.version import TEXT_SIZE, Version

numbers = st.integers(0, 99999)
versions = st.builds(Version, numbers, numbers, st.integers(0, 9999))
announced = st.builds(Version, st.integers(0, 8191), st.integers(0, 16383), st.integers(0, 16383))


@given(versions)
def test_text_and_field_round_trip(version: Version) -> None:
    assert Version.parse(str(version)) == version
    assert Version.from_field(version.to_field()) == version
    assert len(version.to_field()) == TEXT_SIZE


@given(versions, versions)
def test_order_is_that_of_the_three_numbers(one: Version, other: Version) -> None:
    assert (one < other) == ((one.major, one.minor, one.patch) < (other.major, other.minor, other.patch))


@given(announced, announced)
def test_a_newer_version_has_the_higher_seq_whatever_the_revision(one: Version, other: Version) -> None:
    assert (one.seq() < other.seq()) == (one < other)
    if one < other:
        assert one.seq(4095) < other.seq()


def test_the_sequence_number_is_the_one_of_the_design() -> None:
    assert Version(1, 2, 3).seq(4) == 1 << 40 | 2 << 26 | 3 << 12 | 4
    assert Version(8191, 16383, 16383).seq(4095) == (1 << 53) - 1


@pytest.mark.parametrize("version", [Version(8192, 0, 0), Version(0, 16384, 0), Version(0, 0, 16384)])
def test_what_does_not_fit_53_bits_cannot_be_announced(version: Version) -> None:
    with pytest.raises(VersionError, match="must be at most"):
        version.seq()


def test_a_revision_has_12_bits() -> None:
    with pytest.raises(VersionError, match="revision"):
        Version(1, 0, 0).seq(4096)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "01.2.3",
        "1.2.03",
        "-1.2.3",
        "+1.2.3",
        "1.2.3-rc1",
        " 1.2.3",
        "1.2.3\n",
        "v1.2.3",
        "1.2.٣",
        "1_0.2.3",
        "99999999999.0.0",
        "2147483648.0.0",
        "100000.100000.1000",
    ],
)
def test_other_text_is_no_version(text: str) -> None:
    with pytest.raises(VersionError):
        Version.parse(text)


@pytest.mark.parametrize("number", [-1, 1 << 31])
def test_numbers_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(VersionError):
        Version(number, 0, 0)


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"1.2.3",
        bytes(16),
        b"1.2.3".ljust(17, b"\x00"),
        b"1.2.3\x001".ljust(16, b"\x00"),
        b"1.2.3".ljust(16),
        b"\xff" * 16,
        b"\x001.2.3".ljust(16, b"\x00"),
        b"01.2.3".ljust(16, b"\x00"),
    ],
)
def test_a_field_is_canonical_text_and_then_nul_bytes_only(field: bytes) -> None:
    with pytest.raises(VersionError):
        Version.from_field(field)


def test_subclasses_compare_and_hash_as_what_they_say() -> None:
    class Own(Version):
        __slots__ = ()

    assert Own(1, 2, 3) == Version(1, 2, 3)
    assert Own(1, 2, 3) < Version(1, 2, 4)
    assert {Version(1, 2, 3): "found"}[Own(1, 2, 3)] == "found"
    assert isinstance(Own.parse("1.2.3"), Own)
    assert Version(1, 2, 3) != "1.2.3"
