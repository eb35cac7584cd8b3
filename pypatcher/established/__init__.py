"""An established QUIC connection: all of 1-RTT, without a socket, a clock or a task.

Bytes in, bytes out, the time passed in; what happened is returned as events. The handshake is aioquic's (``quic``).
One source runs in two ways: as it stands here, or compiled from these files into one module, which then stands for
each of them (``_speedups/established.pxd``).
"""

from __future__ import annotations

from ._chosen import COMPILED  # isort: skip  # it says which of the two the modules below are
from .codec import Train, apart, behind_long_headers, have_short_headers, short_run
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
    "COMPILED",
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
    "Train",
    "apart",
    "behind_long_headers",
    "have_short_headers",
    "short_run",
]
