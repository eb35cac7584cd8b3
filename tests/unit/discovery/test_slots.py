"""Minute slots: the same keys and salts as the Rust crate has, by vectors and by a second reader."""

from __future__ import annotations

from typing import Any

import pytest

from pypatcher.discovery import Slot, unix_minute
from tests.support.discovery import OURS, RUST, namespace_of, slot_vectors
from tests.support.rust_formulas import slot_of


@pytest.mark.parametrize("vector", slot_vectors(), ids=lambda vector: f"{vector['topic'][:16]}-{vector['minute']}")
def test_slots_are_where_the_rust_crate_has_them(vector: dict[str, Any]) -> None:
    namespace = namespace_of(vector["topic"], bytes.fromhex(vector["owner_public"]))
    slot = Slot(namespace, vector["minute"])
    assert namespace.topic == vector["topic"]
    assert slot.topic_hash.hex() == vector["topic_hash"]
    assert slot.key_pair.seed.hex() == vector["slot_seed"]
    assert slot.key_pair.public.hex() == vector["slot_public"]
    assert slot.salt.hex() == vector["salt"]
    assert slot.encryption_key_pair.seed.hex() == vector["encryption_seed"]
    assert slot.encryption_key_pair.public.hex() == vector["encryption_public"]


@pytest.mark.parametrize("vector", slot_vectors(), ids=lambda vector: f"{vector['topic'][:16]}-{vector['minute']}")
def test_the_second_reader_has_the_same_slots(vector: dict[str, Any]) -> None:
    word = b"salt" if vector["topic"].startswith("pypatcher") else b""
    assert [part.hex() for part in slot_of(vector["topic"], vector["minute"], word)] == [
        vector[name] for name in ("slot_seed", "salt", "encryption_seed", "topic_hash")
    ]


def test_our_salt_does_not_give_the_slots_key_away() -> None:
    assert Slot(OURS, 7).salt != Slot(OURS, 7).key_pair.seed
    assert Slot(RUST, 7).salt == Slot(RUST, 7).key_pair.seed


@pytest.mark.parametrize(
    ("now", "minute"), [(0.0, 0), (59.999, 0), (60.0, 1), (-5.0, 0), (1_764_000_059.9, 29_400_000)]
)
def test_a_minute_is_sixty_seconds_since_1970(now: float, minute: int) -> None:
    assert unix_minute(now) == minute


@pytest.mark.parametrize("minute", [-1, 1 << 64])
def test_a_minute_is_a_u64(minute: int) -> None:
    with pytest.raises(ValueError, match="u64"):
        Slot(OURS, minute)
