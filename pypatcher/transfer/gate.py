"""Who decides on what others offer, and which offers may start a fetch at all; the same for every exchange.

design.md "Transport and transfer": a fetch that a stranger's offer starts costs much, so it is limited per /24 or /48
and hour; nodes of the LAN may come back at once. Not here: what is wanted (the updater).
"""

from __future__ import annotations

from typing import Protocol

from pypatcher.addresses import Address, is_lan, network_of
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.transfer.download import Fetch

__all__ = ["NOBODY", "OfferGate", "Taker"]

_GATE_PAUSE = 3600.0


class OfferGate:
    """Which offers may start a fetch: one per /24 or /48 and hour from outside the LAN. Pure."""

    def __init__(self) -> None:
        self._used = WindowLimiter()

    def admit(self, address: Address, now: float) -> bool:
        """Whether an offer from there may start a fetch at ``now`` (monotonic seconds); if so it is counted."""
        return is_lan(address) or self._used.allow(Limit(network_of(address), 1, _GATE_PAUSE), now)


class Taker(Protocol):
    """Decides on offers, and takes them: the updater, or nobody."""

    async def would_take(self, info: PatchInfo, address: Address) -> bool:
        """Whether it is wanted.

        Raises:
            PeerBusyError: it is, but not just now.
        """

    async def take(self, candidate: Candidate, fetch: Fetch) -> None:
        """Fetch it so."""


class _Nobody:
    async def would_take(self, info: PatchInfo, address: Address) -> bool:
        return False

    async def take(self, candidate: Candidate, fetch: Fetch) -> None:
        return


NOBODY: Taker = _Nobody()
"""Where nothing is taken, whoever offers it."""
