"""Which cipher comes first: the one that the processors of both sides are good at.

RFC 8446 section 9.1 names the suites. Without AES instructions (most Raspberry Pis) AES-GCM costs several times what
ChaCha20-Poly1305 does; with them it is the other way round, and by less. So who lacks them puts ChaCha20 first, and a
server takes it when the client does: a PC's order must not burden the device at the other end. Not here: keys, packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from aioquic.tls import CipherSuite

__all__ = ["cipher_order", "has_aes", "order_for_client"]

_AES_FIRST = (
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.CHACHA20_POLY1305_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
)
_CHACHA_FIRST = (
    CipherSuite.CHACHA20_POLY1305_SHA256,
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
)
_CPUINFO = Path("/proc/cpuinfo")
_ENOUGH = 1 << 16


@cache
def cipher_order() -> tuple[CipherSuite, ...]:
    """What this device offers, the best first; without a ``/proc`` as if the processor had AES."""
    try:
        with _CPUINFO.open("rb") as file:
            text = file.read(_ENOUGH).decode("ascii", "replace")
    except OSError:
        return _AES_FIRST
    return _AES_FIRST if has_aes(text) else _CHACHA_FIRST


def has_aes(cpuinfo: str) -> bool:
    """Whether the processor that ``/proc/cpuinfo`` describes has AES instructions; x86 and ARM name them alike."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return any(name.strip() in ("flags", "Features") and "aes" in words.split() for name, _, words in lines)


def order_for_client(own: Sequence[CipherSuite], offered: Sequence[int]) -> list[CipherSuite]:
    """A server's order for a client that offers these: ChaCha20 first if the client has it first of those we know."""
    first = next((suite for suite in offered if suite in own), None)
    if first == CipherSuite.CHACHA20_POLY1305_SHA256:
        return list(_CHACHA_FIRST)
    return list(own)
