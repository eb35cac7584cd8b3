"""What a record says: a release and its address hints, as the Rust program writes them and from hostile bytes."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.addresses import Address, pack_compact
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.postcard import encode_bytes
from pypatcher.discovery import decode_content, decrypt_record, encode_content, is_dialable
from pypatcher.discovery.announcement import says_v1, usable_hints
from pypatcher.discovery.slots import Slot
from pypatcher.errors import CodecError
from tests.support.discovery import namespace_of, release, vectors
from tests.support.rust_formulas import read_patch_info

INFO = release("1.2.3")
V4: Address = ("192.0.2.7", 6881)
V6: Address = ("2001:db8::7", 6881)

addresses = st.tuples(
    st.one_of(st.ip_addresses().map(str), st.sampled_from(["127.0.0.1", "::1", "10.0.0.8"])),
    st.integers(0, 65535),
)


@pytest.mark.parametrize("vector", vectors("rustpatcher")["slots"], ids=lambda vector: str(vector["minute"]))
def test_a_content_of_the_rust_program_reads_as_one_without_hints(vector: dict[str, Any]) -> None:
    slot = Slot(namespace_of(vector["topic"], bytes.fromhex(vector["owner_public"])), vector["minute"])
    content = decrypt_record(slot, bytes.fromhex(vector["encrypted_record"])).content
    assert content.hex() == vector["content"]
    info, hints = decode_content(content)
    assert info.to_postcard() == content
    assert hints == ()


@given(st.lists(addresses, max_size=20))
def test_hints_round_trip_as_far_as_they_can_be_dialled(hints: list[Address]) -> None:
    content = encode_content(INFO, hints)
    info, read = decode_content(content)
    expected = [hint for hint in dict.fromkeys(hints) if is_dialable(hint)][:8]
    assert info == INFO
    assert sorted(read) == sorted(expected)
    assert len(content) <= 121 + 2 + 8 * 18


@given(st.lists(addresses, max_size=20))
def test_a_reader_without_hints_reads_the_release_before_them(hints: list[Address]) -> None:
    version, size, digest, signature, _ = read_patch_info(encode_content(INFO, hints))
    assert (version, size, digest, signature) == ((1, 2, 3), INFO.size, INFO.hash, INFO.signature)
    assert PatchInfo.from_postcard(encode_content(INFO, hints))[0] == INFO


def test_hints_are_two_byte_strings_of_compact_addresses() -> None:
    hints = encode_content(INFO, [V6, V4]).removeprefix(INFO.to_postcard())
    assert hints == b"\x06" + pack_compact(V4) + b"\x12" + pack_compact(V6)


def test_bytes_after_the_hints_are_for_later_versions() -> None:
    assert decode_content(encode_content(INFO, [V4, V6]) + b"later") == (INFO, (V4, V6))


@given(st.binary(max_size=200))
def test_no_hostile_hints_cost_the_release(trailing: bytes) -> None:
    info, hints = decode_content(INFO.to_postcard() + trailing)
    assert info == INFO
    assert len(hints) <= 8
    assert all(is_dialable(hint) for hint in hints)


def test_the_hints_beyond_eight_are_cut() -> None:
    many4 = b"".join(pack_compact((f"192.0.2.{number}", 1)) for number in range(1, 7))
    many6 = b"".join(pack_compact((f"2001:db8::{number}", 1)) for number in range(1, 31))
    _, hints = decode_content(INFO.to_postcard() + encode_bytes(many4) + encode_bytes(many6))
    assert len(hints) == 8
    assert hints[-1] == ("2001:db8::2", 1)


@pytest.mark.parametrize(
    "trailing",
    [
        encode_bytes(bytes(7)) + encode_bytes(b""),
        encode_bytes(pack_compact(V4)) + encode_bytes(bytes(17)),
        encode_bytes(pack_compact(V4) * 9 + b"x") + encode_bytes(b""),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x86\x00" + pack_compact(V4) + b"\x00",
        b"\x0c" + pack_compact(V4),
        encode_bytes(pack_compact(V4)),
    ],
    ids=["ragged IPv4", "ragged IPv6", "ragged behind the eighth", "endless", "not minimal", "cut off", "one list"],
)
def test_a_malformed_list_counts_as_none(trailing: bytes) -> None:
    assert decode_content(INFO.to_postcard() + trailing) == (INFO, ())


@pytest.mark.parametrize(
    "address",
    [
        ("192.0.2.7", 0),
        ("0.0.0.0", 6881),
        ("0.1.2.3", 6881),
        ("224.0.0.1", 6881),
        ("239.255.255.250", 1900),
        ("240.0.0.1", 6881),
        ("255.255.255.255", 6881),
        ("::", 6881),
        ("ff02::fb", 5353),
        ("fe80::1", 6881),
        ("::ffff:192.0.2.7", 6881),
    ],
)
def test_addresses_that_nobody_can_dial_are_neither_sent_nor_believed(address: Address) -> None:
    lists = [pack_compact(address), b""] if ":" not in address[0] else [b"", pack_compact(address)]
    hostile = INFO.to_postcard() + b"".join(encode_bytes(packed) for packed in lists)
    assert decode_content(hostile) == (INFO, ())
    assert decode_content(encode_content(INFO, [address, V4])) == (INFO, (V4,))


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.1.2", "192.168.0.9", "::1", "fd00::1"])
def test_near_addresses_stay(host: str) -> None:
    assert is_dialable((host, 1))
    assert ipaddress.ip_address(decode_content(encode_content(INFO, [(host, 1)]))[1][0][0]) == ipaddress.ip_address(
        host
    )


@given(st.binary(max_size=120))
def test_a_content_that_is_no_release_is_rejected_or_reads_as_one(content: bytes) -> None:
    try:
        info, _ = decode_content(content)
    except CodecError:
        return
    assert content.startswith(info.to_postcard())


SEEN = ("203.0.113.9", 40000)


def test_our_own_address_is_worth_no_packet() -> None:
    own = [("192.168.1.5", 4000)]
    assert usable_hints([("192.168.1.5", 4000), ("192.168.1.5", 4001), SEEN], own) == [("192.168.1.5", 4001), SEEN]


def test_loopback_is_worth_one_only_to_who_is_on_loopback() -> None:
    hints = [("127.0.0.1", 1), ("::1", 1), SEEN]
    assert usable_hints(hints, [("192.168.1.5", 4000)]) == [SEEN]
    assert usable_hints(hints, [("127.0.0.2", 4000)]) == hints


def test_who_speaks_v1_says_so_behind_the_hints() -> None:
    for hints in ([], [V4], [V4, V6]):
        plain, new = encode_content(INFO, hints), encode_content(INFO, hints, speaks_v1=True)
        assert (says_v1(plain), says_v1(new)) == (False, True)
        assert new == plain + b"\x01"
        assert decode_content(new) == decode_content(plain)
    assert not says_v1(INFO.to_postcard())
    assert not says_v1(b"noise")
