"""Ranges of stream bytes that arrived ahead of their turn, with a limit on the gaps between them. Pure.

RFC 9000 section 21.7: who sends every second byte makes a range of each. It replaces aioquic's ``RangeSet``, which
walks through all for each further frame: 100 kB of such packets stopped the whole node for seconds. Here they are few
and found by bisection, so that a frame costs the same whatever came before it. Not here: the bytes themselves.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

__all__ = ["CRYPTO_FRAGMENTS", "STREAM_FRAGMENTS", "Fragments", "TooManyFragmentsError"]

CRYPTO_FRAGMENTS = 64
"""Of a handshake: its 16 KiB are 14 datagrams, and who loses every second one makes 7; some cut and mix their hello."""

STREAM_FRAGMENTS = 512
"""Of a stream: its largest window, 2 MiB, is 1,800 datagrams of 1,170 bytes. Chance makes 450 ranges of them at the
most, if it takes half of them; 160 if it takes one of ten."""


class TooManyFragmentsError(Exception):
    """No honest loss leaves so many gaps."""


class Fragments:
    """Ranges in their order, between any two of which something is missing."""

    __slots__ = ("_most", "_ranges")

    def __init__(self, most: int) -> None:
        """Hold at most ``most`` ranges."""
        self._most = most
        self._ranges: list[range] = []

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, index: int) -> range:
        return self._ranges[index]

    def add(self, start: int, stop: int) -> None:
        """The bytes from ``start`` to before ``stop`` are here.

        Raises:
            TooManyFragmentsError: that would be one range too many.
        """
        ranges = self._ranges
        first = bisect_left(ranges, start, key=_stop)
        after = bisect_right(ranges, stop, key=_start)
        if first < after:
            start, stop = min(start, ranges[first].start), max(stop, ranges[after - 1].stop)
        elif len(ranges) >= self._most:
            raise TooManyFragmentsError
        ranges[first:after] = [range(start, stop)]

    def shift(self) -> range:
        """Take the first range away."""
        return self._ranges.pop(0)


def _start(part: range) -> int:
    return part.start


def _stop(part: range) -> int:
    return part.stop
