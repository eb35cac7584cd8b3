"""An established QUIC connection: all of 1-RTT, without a socket, a clock or a task.

Bytes in, bytes out, the time passed in; what happened is returned as events. The handshake is aioquic's (``quic``).
"""

from __future__ import annotations

from .codec import behind_long_headers
from .flow import FlowLimits
from .ids import ConnectionId
from .machine import Established
from .state import (
    Confirmed,
    Event,
    Handover,
    IdIssued,
    IdRetired,
    StreamData,
    StreamReset,
    StreamStopped,
    Terminated,
)

__all__ = [
    "Confirmed",
    "ConnectionId",
    "Established",
    "Event",
    "FlowLimits",
    "Handover",
    "IdIssued",
    "IdRetired",
    "StreamData",
    "StreamReset",
    "StreamStopped",
    "Terminated",
    "behind_long_headers",
]
