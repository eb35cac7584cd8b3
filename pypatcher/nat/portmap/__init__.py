"""Asking the router for a port: PCP, NAT-PMP, UPnP IGD, whichever it speaks, for as long as the node runs."""

from __future__ import annotations

from pypatcher.nat.portmap.gateway import default_gateway
from pypatcher.nat.portmap.mapper import Mapping, PortMapper

__all__ = ["Mapping", "PortMapper", "default_gateway"]
