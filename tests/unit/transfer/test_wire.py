"""The bytes of the v0 exchange: design.md "Transport and transfer"; auth values made by the Rust program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.patch import Patch, PatchInfo, make_info
from pypatcher.errors import CodecError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.transfer import wire
from pypatcher.version import Version

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "rustpatcher.json").read_text())
OWNER = OwnerKey(bytes(range(32)))

infos = st.builds(
    PatchInfo,
    st.builds(Version, *[st.integers(0, 9999)] * 3),
    st.integers(0, (1 << 64) - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
)


@pytest.mark.parametrize("vector", VECTORS["auth"])
def test_auth_values_are_those_of_the_rust_program(vector: dict[str, object]) -> None:
    owner = OwnerKey(bytes.fromhex(str(vector["owner_public"])))
    minute = vector["minute"]
    assert isinstance(minute, int)
    assert wire.auth_value(owner, minute).hex() == vector["auth"]


@pytest.mark.parametrize(("off", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_request_is_accepted_one_minute_to_either_side(off: int, accepted: bool) -> None:
    assert wire.check_auth(wire.auth_value(OWNER, 1000 + off), OWNER, 1000) is accepted


def test_a_request_for_another_owner_or_of_another_length_is_refused() -> None:
    request = wire.auth_value(OwnerKey(bytes(32)), 1000)
    assert not wire.check_auth(request, OWNER, 1000)
    assert not wire.check_auth(wire.auth_value(OWNER, 1000)[:-1], OWNER, 1000)


def test_the_first_and_the_last_minute_of_time_have_neighbours() -> None:
    for minute in (0, (1 << 64) - 1):
        assert wire.check_auth(wire.auth_value(OWNER, minute), OWNER, minute)


@given(infos, st.binary(max_size=300))
def test_an_acceptance_and_the_data_are_one_byte_a_length_and_a_patch(info: PatchInfo, data: bytes) -> None:
    answer = wire.encode_acceptance(info, len(data)) + data
    patch = Patch(info, data).to_postcard()
    assert answer == b"\x01" + len(patch).to_bytes(8, "big") + patch
    header, rest = wire.decode_patch_header(patch[: wire.HEADER_LIMIT], len(patch))
    assert (header.info, header.data_size) == (info, len(data))
    assert data.startswith(rest)


@given(st.binary(max_size=wire.HEADER_LIMIT), st.integers(0, (1 << 64) - 1))
def test_hostile_headers_are_codec_errors_and_nothing_else(start: bytes, length: int) -> None:
    try:
        header, rest = wire.decode_patch_header(start, length)
    except CodecError:
        return
    assert len(start) - len(rest) + header.data_size == length


@given(infos, st.integers(0, 1 << 40), st.integers(-5, 5).filter(bool))
def test_a_header_whose_data_ends_elsewhere_is_refused(info: PatchInfo, size: int, off: int) -> None:
    header = wire.encode_acceptance(info, size)[9:]
    with pytest.raises(CodecError):
        wire.decode_patch_header(header, len(header) + size + off)


def test_the_longest_header_fits_its_limit() -> None:
    info = make_info(Version(2147483647, 99, 99), bytes(32), (1 << 64) - 1, KeyPair.generate())
    assert len(wire.encode_acceptance(info, (1 << 64) - 200)) <= 9 + wire.HEADER_LIMIT


def test_a_refusal_tells_the_minute_in_our_namespaces_alone() -> None:
    assert wire.encode_refusal(None) == b"\x00"
    assert wire.encode_refusal(258) == b"\x00\x02\x01" + bytes(6)
