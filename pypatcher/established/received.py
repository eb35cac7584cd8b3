"""Which packet numbers came: no packet counts twice, and what an ACK frame says (RFC 9000 section 13.2). Pure."""

from __future__ import annotations

from .octets import varint

__all__ = ["Received"]

_RANGES = 64
"""Older ones are forgotten, and their packets never taken."""
_EXPONENT = 3
_EVERY = 2
MAX_ACK_DELAY = 0.025


class Received:
    """Ranges of packet numbers, ascending, with something missing between any two."""

    __slots__ = ("ack_at", "eliciting", "floor", "largest", "largest_time", "ranges")

    def __init__(self) -> None:
        """Nothing came."""
        self.ranges: list[list[int]] = []
        self.floor = 0
        """Everything below counts as received."""
        self.largest = -1
        self.largest_time = 0.0
        self.eliciting = 0
        """How many came that want an acknowledgement, since the last one."""
        self.ack_at: float | None = None

    def is_new(self, number: int) -> bool:
        """Whether that packet has not come yet."""
        if number > self.largest:
            return True
        if number < self.floor:
            return False
        for low, high in reversed(self.ranges):
            if number > high:
                return True
            if number >= low:
                return False
        return True

    def add(self, number: int, now: float, eliciting: bool) -> None:
        """A new packet came and was genuine."""
        ranges = self.ranges
        in_order = number == self.largest + 1
        if in_order and ranges:
            ranges[-1][1] = number
        else:
            self._insert(number)
        if number > self.largest:
            self.largest = number
            self.largest_time = now
        if eliciting:
            self.eliciting += 1
            if self.eliciting >= _EVERY or not in_order:
                self.ack_at = now
            elif self.ack_at is None:
                self.ack_at = now + MAX_ACK_DELAY

    def forget(self, up_to: int) -> None:
        """The peer knows that these came."""
        ranges = self.ranges
        # The last range stays: there is always something to say.
        while len(ranges) > 1 and ranges[0][1] <= up_to:
            self.floor = ranges.pop(0)[1] + 1

    def frame(self, now: float, room: int) -> bytes:
        """An ACK frame of at most ``room`` bytes, of which 32 suffice."""
        ranges = self.ranges
        low, high = ranges[-1]
        delay = int(max(0.0, now - self.largest_time) * 1000000) >> _EXPONENT
        parts = []
        left = room - 25
        previous = low
        for index in range(len(ranges) - 2, -1, -1):
            start, stop = ranges[index]
            part = varint(previous - stop - 2) + varint(stop - start)
            left -= len(part)
            if left < 0:
                break
            parts.append(part)
            previous = start
        self.ack_at = None
        self.eliciting = 0
        return b"".join((b"\x02", varint(high), varint(delay), varint(len(parts)), varint(high - low), *parts))

    def _insert(self, number: int) -> None:
        ranges = self.ranges
        index = len(ranges)
        while index and ranges[index - 1][0] > number:
            index -= 1
        joins_below = index > 0 and ranges[index - 1][1] == number - 1
        joins_above = index < len(ranges) and ranges[index][0] == number + 1
        if joins_below and joins_above:
            ranges[index - 1][1] = ranges[index][1]
            del ranges[index]
        elif joins_below:
            ranges[index - 1][1] = number
        elif joins_above:
            ranges[index][0] = number
        else:
            ranges.insert(index, [number, number])
            if len(ranges) > _RANGES:
                self.floor = ranges.pop(0)[1] + 1
