"""The pure twin of ``_speedups/chunks.pyx``: find the cuts of content-defined chunks. Same function, same answers."""

from __future__ import annotations

from array import array

__all__ = ["find_cut"]

_U64 = (1 << 64) - 1


def find_cut(data: memoryview, start: int, gear: array[int], limits: tuple[int, int, int, int, int]) -> int:
    """Bytes of the chunk that begins at ``start``: up to its cut, or to the end of ``data`` where none comes before.

    FastCDC, normalized: the first ``minimum`` bytes are not looked at; then ``h = (h << 1) + gear[byte]`` modulo 2**64,
    and the chunk ends behind the byte if ``h >> shift`` is 0. The shift is ``early`` while the chunk, this byte
    counted, is shorter than ``normal``, and ``late`` from there; at ``maximum`` it ends anyhow.

    Args:
        gear: 256 numbers of 64 bits.
        limits: minimum, normal, maximum, early, late.

    Raises:
        ValueError: an argument makes no sense.
    """
    minimum, normal, maximum, early, late = limits
    end = len(data)
    if not (
        0 <= start <= end and 0 < minimum <= normal <= maximum and 0 < early < 64 and 0 < late < 64 and len(gear) == 256
    ):
        raise ValueError("find_cut needs a start in the data, growing sizes and shifts below 64")
    end = min(end, start + maximum)
    turn = min(start + normal - 1, end)
    first = start + minimum
    digest = 0
    for at, byte in enumerate(data[first:turn], first + 1):
        digest = (digest << 1) + gear[byte] & _U64
        if not digest >> early:
            return at - start
    first = max(first, turn)
    for at, byte in enumerate(data[first:end], first + 1):
        digest = (digest << 1) + gear[byte] & _U64
        if not digest >> late:
            return at - start
    return end - start
