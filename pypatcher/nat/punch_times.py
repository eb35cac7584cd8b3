"""When two strangers knock: moments that both sides compute alike, so that their first packets cross.

Pure. A way through two routers opens when both send within the half minute for which a router waits for answers, so
the moments of a pair are drawn from both addresses and the wall clock (BEP 55's idea without a third party). There is
one in every window (``WINDOW``); that is level 0. At level n there is ONE in each period of 2^n windows, and it is
always one of those of level n - 1. So two sides that see fleets of different sizes, or failed differently often, still
meet: the rarer one's moments are all the other's too, and no wait is longer than two periods. Not here: which level a
pair has (``knock_queue``).
"""

from __future__ import annotations

import hashlib

from pypatcher.addresses import Address, format_address

__all__ = ["LAST_LEVEL", "WINDOW", "level_of_crowd", "next_moment", "pair_name"]

WINDOW = 20.0
"""Seconds."""
LAST_LEVEL = 8
"""One moment in 85 minutes: who was away when we knocked, and comes back, is met within hours."""
_FEW, _CROWD = 3, 64


def level_of_crowd(size: int) -> int:
    """The level at which a crowd of ``size`` nodes together sends a host about 3 packets a minute, up to 64 nodes.

    So few as 3 need no such care: the 3 knocks that each of them has for a host in 5 minutes are no harm.
    """
    return 0 if size <= _FEW else (min(size, _CROWD) - 1).bit_length()


def pair_name(one: Address | None, other: Address) -> bytes:
    """What names a pair, whichever side asks; a node that does not know where others see it has no common moments."""
    return b" ".join(sorted(format_address(each).encode() for each in (one, other) if each is not None))


def next_moment(pair: bytes, level: int, wall: float) -> float:
    """The unix time of the pair's first moment of that level after ``wall``."""
    period = int(wall // (WINDOW * 2**level))
    while (moment := _moment(pair, level, period)) <= wall:
        period += 1
    return moment


def _moment(pair: bytes, level: int, period: int) -> float:
    """Down the tree: of the two halves of each period one is drawn."""
    for each in range(level, 0, -1):
        period = 2 * period + (_draw(pair, each, period) & 1)
    return (period + _draw(pair, 0, period) / 2**32) * WINDOW


def _draw(pair: bytes, level: int, period: int) -> int:
    drawn = hashlib.blake2b(b"%b %d %d" % (pair, level, period), digest_size=4).digest()
    return int.from_bytes(drawn, "big")
