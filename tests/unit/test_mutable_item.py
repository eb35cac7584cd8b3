"""Mutable items: the vectors of BEP 44, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pypatcher.dht import MutableItem
from pypatcher.errors import CodecError
from pypatcher.keys import KeyPair

_KEY = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
_PAIR = KeyPair.from_seed(bytes(32))


@pytest.mark.parametrize(
    ("salt", "signature", "target"),
    [
        (
            b"",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
            "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
            "4a533d47ec9c7d95b1ad75f576cffc641853b750",
        ),
        (
            b"foobar",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
            "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
        ),
    ],
)
def test_the_vectors_of_bep_44_verify(salt: bytes, signature: str, target: str) -> None:
    item = MutableItem(_KEY, salt, 1, b"Hello World!", bytes.fromhex(signature))
    assert item.verify()
    assert item.target.hex() == target


def test_a_signed_item_verifies_and_no_changed_one_does() -> None:
    item = MutableItem.sign(_PAIR, b"salt", 7, b"value")
    assert item.verify()
    changed = [
        replace(item, salt=b"tlas"),
        replace(item, salt=b""),
        replace(item, seq=8),
        replace(item, value=b"other"),
        replace(item, public_key=_KEY),
        replace(item, public_key=bytes(31)),
        replace(item, signature=bytes(64)),
        replace(item, signature=item.signature[:-1]),
        replace(item, seq=1 << 63),
        replace(item, value=bytes(997)),
    ]
    assert not any(other.verify() for other in changed)


def test_sizes_end_where_bep_44_ends_them() -> None:
    assert MutableItem.sign(_PAIR, bytes(64), (1 << 63) - 1, bytes(996)).verify()
    for salt, seq, value in ((bytes(65), 0, b""), (b"", 1 << 63, b""), (b"", 0, bytes(997))):
        with pytest.raises(CodecError):
            MutableItem.sign(_PAIR, salt, seq, value)
