"""What an endpoint knows of one of its connections. Not here: what it carries (``connection``)."""

from __future__ import annotations

import asyncio

from pypatcher.addresses import Address
from pypatcher.transport.admission import ConnectionPlace
from pypatcher.udp import DatagramSocket

__all__ = ["OpenConnection"]


class OpenConnection:
    """Its socket, who opened it, its place, and until when it must have asked.

    ``source`` is the address of ours that the routing table chose once it was established; ``asked`` the one that the
    peer's newest packet asked, and ours leave from: none but the peer can choose that.
    """

    __slots__ = ("address", "asked", "deadline", "place", "source", "udp")

    def __init__(self, udp: DatagramSocket, address: Address) -> None:
        self.udp = udp
        self.address = address
        self.asked = b""
        self.deadline: asyncio.TimerHandle | None = None
        self.place: ConnectionPlace | None = None
        self.source: str | None = None

    def end_deadline(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None
