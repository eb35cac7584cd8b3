"""Asks the router to open a port: PCP, NAT-PMP, UPnP IGD, whichever it speaks, for as long as the node runs.

Nothing that the router says is believed beyond that; not here: who is told of the port.
"""

from __future__ import annotations

from pypatcher.nat.portmap.gateway import default_gateway
from pypatcher.nat.portmap.mapper import PortMapper, PortMapping

__all__ = ["PortMapper", "PortMapping", "default_gateway"]
