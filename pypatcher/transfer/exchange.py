"""What every transfer protocol is: one way of moving a release between two devices, both sides of it.

A protocol adds itself in ``exchanges``. The limits that hold for all of them are elsewhere, once: ``shelf`` and
``upload_limits`` (giving), ``peer_budget``, ``hedging`` and ``download`` (fetching).
"""

from __future__ import annotations

from typing import Protocol

from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.transport import Connection

__all__ = ["Exchange", "Sink"]


class Sink(Protocol):
    """Where a release goes while it comes."""

    def write(self, data: bytes) -> object:
        """Take what comes next, up to 256 KiB; called in a worker thread, never twice at once.

        Raises:
            OSError: it cannot be kept; the fetch ends with that.
        """

    def received(self, count: int, total: int) -> None:
        """So many bytes of the file have come, of ``total``; called in the event loop."""


class Exchange(Protocol):
    """One transfer protocol, in one namespace."""

    @property
    def alpn(self) -> str:
        """By which it is known in a handshake."""

    def suits(self, candidate: Candidate) -> bool:
        """Whether that node, as far as we know, speaks it."""

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Dial a candidate and fetch its release; see ``Fetch``."""

    async def answer(self, connection: Connection) -> None:
        """Serve somebody who dialed us; what goes wrong with it is its peer's loss alone."""
