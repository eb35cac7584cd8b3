"""What every transfer protocol is: one way of moving a release between two devices, both sides of it.

A protocol adds itself in ``exchanges``. The limits that hold for all of them are elsewhere, once: ``shelf`` and
``upload_limits`` (giving), ``peer_budget``, ``hedging`` and ``download`` (fetching).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.transport import Connection

__all__ = ["Exchange"]


class Exchange(Protocol):
    """One transfer protocol, in one namespace."""

    @property
    def alpn(self) -> str:
        """By which it is known in a handshake."""

    def suits(self, candidate: Candidate) -> bool:
        """Whether that node, as far as we know, speaks it."""

    async def fetch(
        self, candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
    ) -> PatchInfo:
        """Dial a candidate and fetch its release; see ``Fetch``."""

    async def answer(self, connection: Connection) -> None:
        """Serve somebody who dialed us; what goes wrong with it is its peer's loss alone."""
