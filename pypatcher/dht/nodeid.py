"""Node ids of 160 bits: distance, randomness, and the ids that BEP 42 ties to an address.

Pure functions. A contact is a node's id together with its address; nothing here knows whether it answers.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from pypatcher.addresses import Address, is_lan

__all__ = ["ID_SIZE", "Contact", "distance", "is_secure", "prefix_length", "random_id", "secure_id", "sibling_id"]

ID_SIZE = 20

_MASK_4 = 0x030F3FFF
_MASK_6 = 0x0103070F1F3F7FFF
_CRC32C_POLYNOMIAL = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Contact:
    """A node as others name it: its 20-byte id and the address that it answers at."""

    id: bytes
    address: Address


def distance(a: bytes, b: bytes) -> int:
    """XOR of two ids, as a number: smaller is nearer."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def prefix_length(a: bytes, b: bytes) -> int:
    """How many leading bits two ids share, 0 to 160."""
    return 160 - distance(a, b).bit_length()


def random_id(random: Random) -> bytes:
    """Any id, each equally likely."""
    return random.getrandbits(160).to_bytes(ID_SIZE, "big")


def sibling_id(node_id: bytes, shared: int, random: Random) -> bytes:
    """Any id that has exactly its first ``shared`` bits (0 to 159) in common with ``node_id``."""
    rest = 159 - shared
    number = (int.from_bytes(node_id, "big") >> rest ^ 1) << rest
    return (number | random.getrandbits(rest) if rest else number).to_bytes(ID_SIZE, "big")


def secure_id(host: str, random: Random) -> bytes:
    """An id that BEP 42 allows the node at the literal address ``host``."""
    seed = random.getrandbits(8)
    tail = random.getrandbits(160).to_bytes(ID_SIZE, "big")
    prefix = _prefix(host, seed & 7)
    middle = (prefix[2] & 0xF8) | (tail[2] & 0x07)
    return prefix[:2] + bytes((middle,)) + tail[3:19] + bytes((seed,))


def is_secure(node_id: bytes, host: str) -> bool:
    """Whether BEP 42 allows ``node_id`` at ``host``; addresses that can only be near may carry any id."""
    if is_lan((host, 0)):
        return True
    prefix = _prefix(host, node_id[19] & 7)
    return node_id[:2] == prefix[:2] and (node_id[2] ^ prefix[2]) & 0xF8 == 0


@lru_cache(maxsize=4096)
def _prefix(host: str, seed: int) -> bytes:
    """Remembered, since lookups ask it of every node that is named; ``seed`` is 0 to 7."""
    packed = ipaddress.ip_address(host.partition("%")[0]).packed
    masked = (
        (int.from_bytes(packed, "big") & _MASK_4) | (seed << 29)
        if len(packed) == 4
        else (int.from_bytes(packed[:8], "big") & _MASK_6) | (seed << 61)
    )
    return _crc32c(masked.to_bytes(len(packed) if len(packed) == 4 else 8, "big")).to_bytes(4, "big")


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CRC32C_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
