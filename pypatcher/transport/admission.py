"""Who may open a connection to us, when its address must be proved first, and who goes when there is no place left.

RFC 9000 section 8.1 (address validation by Retry) and 21.6. It counts and answers; it knows no packet, socket or clock.

- A flood of first packets with forged addresses costs no state once a few handshakes are half open, one of the same
  host; and it pushes nobody out, for that takes a proved address.
- A connection keeps its place from the moment its peer asked rightly. Until then it has its place only as long as
  nobody else wants it: when there is none left, the oldest goes that has not asked rightly.
- No host, network or side (the LAN, the outside) can take all the places: three quarters are for each side, and of
  those the last quarter is for networks that have none. Handshakes of one network are limited in time, too, those
  whose address was proved: any others count against nobody, and too many only make all prove theirs.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from pypatcher.addresses import Address, host_of, is_lan, network_of
from pypatcher.limits import Limit, WindowLimiter

__all__ = ["Admission", "ConnectionPlace", "Verdict"]

_ALL, _OUTSIDE, _LAN = "all", "outside", "lan"
_OTHER_SIDE, _NEWCOMERS = 4, 4
_HANDSHAKES_SECONDS = 10.0
_UNPROVED = "unproved"


class Verdict(enum.Enum):
    """What to do with the first packet of a handshake."""

    ACCEPT = enum.auto()
    VALIDATE = enum.auto()
    REFUSE = enum.auto()
    IGNORE = enum.auto()
    """Its network began too many handshakes just now: no answer, it may try again in a moment."""


@dataclass(eq=False, slots=True)
class ConnectionPlace:
    """One connection's place.

    Attributes:
        host: what limits count as its host.
        groups: all that it counts for.
        is_finished: its handshake is complete.
        is_kept: its peer asked rightly.
    """

    host: str
    groups: tuple[str, ...]
    is_finished: bool = False
    is_kept: bool = False


@dataclass(slots=True)
class Admission:
    """Places for connections that others open.

    Attributes:
        connections: at most so many at once; three quarters of them from outside the LAN, and three from within.
        per_address: at most so many of one host (``addresses.host_of``).
        per_network: at most so many of one /24 or /48 outside the LAN: what a single customer may have.
        per_lan_host: at most so many of one host of the LAN, all its ports together.
        half_open: from so many unfinished handshakes on, an address must be proved.
        handshakes, lan_handshakes: at most so many in 10 s, of one network outside the LAN and of one host in it;
            from ``handshakes`` with unproved addresses on, of all together, an address must be proved.
    """

    connections: int = 64
    per_address: int = 4
    per_network: int = 12
    per_lan_host: int = 32
    half_open: int = 8
    handshakes: int = 20
    lan_handshakes: int = 150
    _open: Counter[str] = field(default_factory=Counter)
    _unfinished: Counter[str] = field(default_factory=Counter)
    _places: dict[ConnectionPlace, None] = field(default_factory=dict)
    _begun: WindowLimiter = field(default_factory=WindowLimiter, compare=False)

    def judge(self, source: Address, validated: bool, now: float) -> Verdict:
        """Whether a first packet from ``source`` may make a connection; ``validated`` if it echoed our token."""
        # The second handshake of a host, too: forged ones must not take the places of the device that has it.
        if not validated and (self._unfinished.total() >= self.half_open or self._unfinished[host_of(source)]):
            return Verdict.VALIDATE
        rates = [self._rate(source)] if validated else [self._rate(source), self._rate(None)]
        if not self._begun.allows(rates, now):
            return Verdict.IGNORE if validated else Verdict.VALIDATE
        full = self._full(source)
        if not full:
            return Verdict.ACCEPT
        if self._oldest(full) is None:
            return Verdict.REFUSE
        return Verdict.ACCEPT if validated else Verdict.VALIDATE

    def opened(self, source: Address, validated: bool, now: float) -> tuple[ConnectionPlace, ConnectionPlace | None]:
        """A handshake that was accepted began: its place, and the one that must be vacated for it."""
        vacated = self._oldest(full) if (full := self._full(source)) else None
        if vacated is not None:
            self.ended(vacated)
        place = ConnectionPlace(host_of(source), tuple(self._most(source)))
        self._places[place] = None
        # What has a forged address must not count for the network that it names.
        self._begun.count([self._rate(source if validated else None)], now)
        self._unfinished[place.host] += 1
        self._open.update(place.groups)
        return place, vacated

    def finished(self, place: ConnectionPlace) -> None:
        """Its handshake is complete; once is enough."""
        if not place.is_finished:
            place.is_finished = True
            _take(self._unfinished, place.host)

    def ended(self, place: ConnectionPlace) -> None:
        """Its connection is gone; once is enough."""
        if place in self._places:
            del self._places[place]
            self.finished(place)
            for group in place.groups:
                _take(self._open, group)

    @property
    def side(self) -> int:
        """Most places of either side, the LAN and the outside."""
        return self.connections - self.connections // _OTHER_SIDE

    def _most(self, source: Address) -> dict[str, int]:
        """What a connection from there counts for, and how many each may have."""
        near, network = is_lan(source), network_of(source)
        return {
            host_of(source): self.per_address,
            network: self.per_lan_host if near else self.per_network,
            _LAN if near else _OUTSIDE: self.side - self.side // _NEWCOMERS if self._open[network] else self.side,
            _ALL: self.connections,
        }

    def _full(self, source: Address) -> set[str]:
        return {group for group, most in self._most(source).items() if self._open[group] >= most}

    def _oldest(self, groups: set[str]) -> ConnectionPlace | None:
        """The oldest that has not asked rightly, of those that count for all these."""
        return next((place for place in self._places if not place.is_kept and groups.issubset(place.groups)), None)

    def _rate(self, source: Address | None) -> Limit:
        if source is None:
            return Limit(_UNPROVED, self.handshakes, _HANDSHAKES_SECONDS)
        most = self.lan_handshakes if is_lan(source) else self.handshakes
        return Limit(network_of(source), most, _HANDSHAKES_SECONDS)


def _take(counts: Counter[str], group: str) -> None:
    counts[group] -= 1
    if not counts[group]:
        del counts[group]
