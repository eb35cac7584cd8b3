"""Which of our own addresses the routing table chooses for a packet. No packet is sent."""

from __future__ import annotations

import socket

from pypatcher.addresses import Address

__all__ = ["source_for"]


def source_for(destination: Address) -> str | None:
    """Our address on the way to ``destination``, a literal one; None if there is no way."""
    kind = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
    try:
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(destination)
            host: str = probe.getsockname()[0]
    except OSError:
        return None
    return host
