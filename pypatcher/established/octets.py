"""The few bytes of a packet that are written and read for each one: numbers, headers, nonces. Pure.

Nothing is decided here. These functions alone have a second form in C (``_speedups/established.pxd``): as Python says
it best, each would cost the compiled module as much again.
"""

from __future__ import annotations

__all__ = [
    "cut", "joined", "nonce", "number_at", "packet_header", "samples", "samples_of", "stands_at", "stream_frame",
    "unprotected_header", "varint",
]  # fmt: skip

_ONE = [bytes((value,)) for value in range(64)]


def cut(data: bytes, start: int, end: int) -> bytes:
    """The bytes from ``start`` to before ``end``."""
    return data[start:end]


def number_at(data: bytes, at: int, size: int) -> int:
    """The number in ``size`` bytes; of 8 the first two bits do not count."""
    return int.from_bytes(data[at : at + size], "big") & 0x3FFFFFFFFFFFFFFF


def varint(value: int) -> bytes:
    """A number from 0 to 2^62 - 1, in the fewest bytes (RFC 9000 section 16)."""
    if value < 0x40:
        return _ONE[value]
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")


def nonce(iv: bytes, number: int) -> bytes:
    """12 bytes: those of ``iv``, the last 8 of them with the packet number (RFC 9001 section 5.3)."""
    return (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")


def packet_header(prefix: bytes, number: int) -> bytes:
    """A short header before it is protected: first byte and connection id, then 4 bytes of packet number."""
    return prefix + (number & 0xFFFFFFFF).to_bytes(4, "big")


def stands_at(data: bytes, at: int, what: bytes) -> bool:
    """Whether ``what`` stands there."""
    return data.startswith(what, at)


def samples(packets: list[bytes]) -> bytes:
    """The first 16 bytes of each sealed payload, of which the mask of its header is made."""
    return b"".join([packet[:16] for packet in packets])


def samples_of(train: bytes, size: int, start: int, count: int) -> bytes:
    """The 16 bytes at ``start`` of each of the first ``count`` packets of ``size`` bytes."""
    return b"".join([train[at : at + 16] for at in range(start, start + count * size, size)])


def joined(headers: list[bytes], sealed: list[bytes], masks: bytes, first: int, end: int) -> bytes:
    """Whole packets, from one index to before another, each header hidden by 5 of its 16 bytes of ``masks`` (RFC 9001
    section 5.4.1)."""
    parts = []
    for index in range(first, end):
        header, at = headers[index], 16 * index
        hidden = int.from_bytes(header[-4:], "big") ^ int.from_bytes(masks[at + 1 : at + 5], "big")
        parts += [bytes((header[0] ^ (masks[at] & 0x1F),)), header[1:-4], hidden.to_bytes(4, "big"), sealed[index]]
    return b"".join(parts)


def unprotected_header(first: int, train: bytes, start: int, number_at: int, number: int, size: int) -> bytes:  # noqa: PLR0917
    """The short header of a packet that came, which begins at ``start``: what stands there, but for its first byte and
    its packet number."""
    return bytes((first,)) + train[start + 1 : number_at] + number.to_bytes(size, "big")


def stream_frame(kind: int, name: bytes, start: int, data: bytes, at: int, length: int) -> bytes:  # noqa: PLR0917
    """A STREAM frame of the ``length`` bytes at ``at``; offsets take 8 bytes, lengths 2 (RFC 9000 section 19.8)."""
    head = (
        bytes((kind,)) + name + (start | 0xC000000000000000).to_bytes(8, "big") + (length | 0x4000).to_bytes(2, "big")
    )
    return head + data[at : at + length]
