"""Limits on connections that others open: per address, per network and in all; and when an address must prove itself.

RFC 9000 section 8.1 (address validation by Retry) and 21.6. First packets with forged addresses cost no state once a
few handshakes are half open, or one of the same address; no address or network can take all the places, a quarter of
which are kept for the LAN. On the LAN, loopback included, an address is counted with its port: many devices, or tests,
share one there. It counts and answers; it knows no packet, socket or clock.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from pypatcher.addresses import Address, host_of, is_lan, network_of

__all__ = ["Admission", "Verdict"]

_ALL, _OUTSIDE = "all", "outside"
_LAN_PART = 4


class Verdict(enum.Enum):
    """What to do with the first packet of a handshake."""

    ACCEPT = enum.auto()
    VALIDATE = enum.auto()
    REFUSE = enum.auto()


@dataclass(slots=True)
class Admission:
    """Places for connections that others open.

    Attributes:
        connections: at most so many at once; three quarters of them from outside the LAN.
        per_address: at most so many of one address (``addresses.host_of``).
        per_network: at most so many of one /24 or /48 outside the LAN: what a single customer may have.
        per_lan_host: at most so many of one host of the LAN, all its ports together.
        half_open: from so many unfinished handshakes on, an address must be proved.
    """

    connections: int = 64
    per_address: int = 4
    per_network: int = 12
    per_lan_host: int = 32
    half_open: int = 8
    _open: Counter[str] = field(default_factory=Counter)
    _unfinished: Counter[str] = field(default_factory=Counter)

    def judge(self, source: Address, validated: bool) -> Verdict:
        """Whether a first packet from ``source`` may make a connection; ``validated`` if it echoed our token."""
        # The second handshake of an address, too: forged ones must not take the places of the device that has it.
        if not validated and (self._unfinished.total() >= self.half_open or self._unfinished[host_of(source)]):
            return Verdict.VALIDATE
        if any(self._open[group] >= most for group, most in self._places(source).items()):
            return Verdict.REFUSE
        return Verdict.ACCEPT

    def opened(self, source: Address) -> None:
        """A handshake began."""
        self._unfinished[host_of(source)] += 1
        self._open.update(self._places(source).keys())

    def finished(self, source: Address) -> None:
        """A handshake that ``source`` began is complete."""
        _take(self._unfinished, host_of(source))

    def ended(self, source: Address, was_finished: bool) -> None:
        """A connection that was ``opened`` from ``source`` is gone."""
        if not was_finished:
            self.finished(source)
        for group in self._places(source):
            _take(self._open, group)

    def _places(self, source: Address) -> dict[str, int]:
        """What a connection from there counts for, and how many each may have."""
        places = {host_of(source): self.per_address, _ALL: self.connections}
        if is_lan(source):
            return {**places, source[0]: self.per_lan_host}
        outside = self.connections - self.connections // _LAN_PART
        return {**places, network_of(source): self.per_network, _OUTSIDE: outside}


def _take(counts: Counter[str], group: str) -> None:
    counts[group] -= 1
    if not counts[group]:
        del counts[group]
