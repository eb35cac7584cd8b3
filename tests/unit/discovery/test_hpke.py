"""Sealing and opening, against vectors of the Rust crate and against keys that an attacker would choose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.discovery.hpke import SEAL_OVERHEAD, open_seal, seal
from pypatcher.errors import CodecError
from pypatcher.keys import KeyPair
from tests.support.discovery import vectors
from tests.support.rust_formulas import unseal

SEED = bytes(range(60, 92))
PUBLIC = KeyPair.from_seed(SEED).public


@pytest.mark.parametrize("vector", vectors("rustpatcher")["seals"], ids=lambda vector: str(len(vector["message"]) // 2))
def test_seals_of_the_rust_crate_open_and_ours_open_by_the_formulas(vector: dict[str, Any]) -> None:
    seed, message = bytes.fromhex(vector["recipient_seed"]), bytes.fromhex(vector["message"])
    assert open_seal(seed, bytes.fromhex(vector["sealed"])) == message
    assert unseal(seed, bytes.fromhex(vector["sealed"])) == message
    assert unseal(seed, seal(KeyPair.from_seed(seed).public, message)) == message


@given(st.binary(max_size=1000), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens(message: bytes, seed: bytes) -> None:
    sealed = seal(KeyPair.from_seed(seed).public, message)
    assert len(sealed) == len(message) + SEAL_OVERHEAD
    assert open_seal(seed, sealed) == message


def test_the_same_message_is_never_sealed_alike() -> None:
    assert seal(PUBLIC, b"message") != seal(PUBLIC, b"message")


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    sealed = seal(PUBLIC, b"message")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(CodecError):
            open_seal(SEED, bytes(changed))


def test_a_truncated_or_longer_seal_does_not_open() -> None:
    sealed = seal(PUBLIC, b"message")
    for wrong in [sealed + b"\0", *(sealed[:size] for size in range(len(sealed)))]:
        with pytest.raises(CodecError):
            open_seal(SEED, wrong)


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CodecError):
        open_seal(bytes(32), seal(PUBLIC, b"message"))


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_an_encapsulated_key_that_would_fix_the_secret_is_refused(point: bytes) -> None:
    sealed = seal(PUBLIC, b"message")
    with pytest.raises(CodecError):
        open_seal(SEED, sealed[:8] + point + sealed[40:])


@pytest.mark.parametrize("public", [b"", bytes(32), b"\x01" + bytes(31), b"\xff" * 32, bytes(33)])
def test_nothing_is_sealed_to_what_is_no_key(public: bytes) -> None:
    with pytest.raises(CodecError):
        seal(public, b"message")
