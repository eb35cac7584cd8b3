"""How to reach peers: QUIC connections by raw public keys, and the sockets that they share with the DHT.

Not here: what connections carry (``transfer``), and whom to connect to (``nat``, ``update``).
"""

from __future__ import annotations

from pypatcher.transport.admission import Admission
from pypatcher.transport.close import CloseCode
from pypatcher.transport.connection import Connection
from pypatcher.transport.endpoint import Endpoint
from pypatcher.transport.source_address import internet_source
from pypatcher.transport.stream import Stream

__all__ = [
    "Admission",
    "CloseCode",
    "Connection",
    "Endpoint",
    "Stream",
    "internet_source",
]
