"""Records as they lie in a slot: those of the Rust crate open, and nothing cut, changed or replayed does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.discovery import Namespace, Record, Slot, decrypt_record, encrypt_record
from pypatcher.discovery.hpke import seal
from pypatcher.discovery.records import VALUE_LIMIT
from pypatcher.errors import CodecError
from pypatcher.keys import KeyPair, OwnerKey
from tests.support.discovery import MINUTE, OURS, OWNER, namespace_of, node, slot_vectors
from tests.support.rust_formulas import OpenedRecord, open_record

SLOT = Slot(OURS, MINUTE)
CONTENT_LIMIT = VALUE_LIMIT - 284


@pytest.mark.parametrize("vector", slot_vectors(), ids=lambda vector: f"{vector['topic'][:16]}-{vector['minute']}")
def test_records_of_the_rust_crate_open_verify_and_seal_anew(vector: dict[str, Any]) -> None:
    slot = Slot(namespace_of(vector["topic"], bytes.fromhex(vector["owner_public"])), vector["minute"])
    record = decrypt_record(slot, bytes.fromhex(vector["encrypted_record"]))
    assert record.pack().hex() == vector["record"]
    identity = KeyPair.from_seed(bytes.fromhex(vector["node_seed"]))
    assert record.node_id == identity.public
    assert Record.make(slot, identity, record.content) == record
    assert decrypt_record(slot, encrypt_record(slot, record)) == record
    expected = OpenedRecord(record.topic_hash, record.minute, record.node_id, record.content)
    assert open_record(bytes.fromhex(vector["encryption_seed"]), encrypt_record(slot, record)) == expected
    assert open_record(bytes.fromhex(vector["encryption_seed"]), bytes.fromhex(vector["encrypted_record"])) == expected


@given(st.binary(max_size=CONTENT_LIMIT))
def test_what_is_encrypted_opens(content: bytes) -> None:
    record = Record.make(SLOT, node(1), content)
    value = encrypt_record(SLOT, record)
    assert len(value) == len(content) + 284 <= VALUE_LIMIT
    assert decrypt_record(SLOT, value) == record


def test_what_no_dht_node_would_keep_is_not_made() -> None:
    with pytest.raises(CodecError):
        encrypt_record(SLOT, Record.make(SLOT, node(1), bytes(CONTENT_LIMIT + 1)))


@given(st.binary(max_size=1100))
def test_garbage_is_rejected(value: bytes) -> None:
    with pytest.raises(CodecError):
        decrypt_record(SLOT, value)


def test_a_value_beyond_the_limit_is_not_even_opened() -> None:
    sealed_seed = seal(SLOT.encryption_key_pair.public, bytes(32))
    record = Record.make(SLOT, node(1), bytes(CONTENT_LIMIT + 1))
    sealed = seal(KeyPair.from_seed(bytes(32)).public, record.pack())
    with pytest.raises(CodecError, match="996"):
        decrypt_record(SLOT, len(sealed).to_bytes(4, "little") + sealed + sealed_seed)


def test_a_truncated_or_longer_value_is_rejected() -> None:
    value = encrypt_record(SLOT, Record.make(SLOT, node(1), b"content"))
    for wrong in [value + b"\0", *(value[:size] for size in range(len(value)))]:
        with pytest.raises(CodecError):
            decrypt_record(SLOT, wrong)


def test_a_flipped_byte_anywhere_is_rejected() -> None:
    value = encrypt_record(SLOT, Record.make(SLOT, node(1), b"content"))
    for position in range(len(value)):
        changed = bytearray(value)
        changed[position] ^= 0x40
        with pytest.raises(CodecError):
            decrypt_record(SLOT, bytes(changed))


@pytest.mark.parametrize("size", [0, 31, 33, 64], ids=str)
def test_a_one_time_seed_of_another_length_is_rejected(size: int) -> None:
    sealed = seal(node(2).public, Record.make(SLOT, node(1), b"content").pack())
    value = len(sealed).to_bytes(4, "little") + sealed + seal(SLOT.encryption_key_pair.public, bytes(size))
    with pytest.raises(CodecError):
        decrypt_record(SLOT, value)


def test_a_record_too_short_for_its_header_is_rejected() -> None:
    one_time = node(3)
    for size in (0, 40, 135):
        sealed = seal(one_time.public, bytes(size))
        value = len(sealed).to_bytes(4, "little") + sealed + seal(SLOT.encryption_key_pair.public, one_time.seed)
        with pytest.raises(CodecError):
            decrypt_record(SLOT, value)


@pytest.mark.parametrize(
    ("made_for", "message"),
    [
        (Slot(OURS, MINUTE - 1), "minute"),
        (Slot(Namespace.ours("armv7", OwnerKey(OWNER.public)), MINUTE), "topic"),
        (Slot(Namespace.rustpatcher(OwnerKey(OWNER.public)), MINUTE), "topic"),
    ],
    ids=["minute", "target", "namespace"],
)
def test_a_record_replayed_elsewhere_is_rejected(made_for: Slot, message: str) -> None:
    record = Record.make(made_for, node(1), b"content")
    with pytest.raises(CodecError, match=message):
        decrypt_record(SLOT, encrypt_record(SLOT, record))


def test_a_record_in_another_nodes_name_is_rejected() -> None:
    mine = Record.make(SLOT, node(1), b"content")
    stolen = Record(mine.topic_hash, mine.minute, node(2).public, mine.content, mine.signature)
    with pytest.raises(CodecError, match="signed"):
        decrypt_record(SLOT, encrypt_record(SLOT, stolen))
