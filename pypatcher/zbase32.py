"""z-base-32, the text form of keys: 5 bits a character, highest first, zeros at the end. Knows nothing of keys.

Fifteen lines of our own rather than a compiled package of an unknown author: what is parsed here is the trust anchor.
The package is the oracle of the tests.
"""

from __future__ import annotations

__all__ = ["decode", "encode"]

_ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    """The text of whole bytes."""
    size = -(-len(data) * 8 // 5)
    number = int.from_bytes(data) << (size * 5 - len(data) * 8)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (size - 1), -1, -5))


def decode(text: str) -> bytes:
    """The bytes of which ``text`` is the one canonical text.

    Raises:
        ValueError: a character is not of the alphabet, or it is the text of no bytes.
    """
    number = 0
    for character in text:
        if character not in _VALUES:
            raise ValueError("not a character of z-base-32")
        number = number << 5 | _VALUES[character]
    size, spare = divmod(len(text) * 5, 8)
    data = (number >> spare).to_bytes(size)
    if encode(data) != text:
        raise ValueError("bits are left over")
    return data
