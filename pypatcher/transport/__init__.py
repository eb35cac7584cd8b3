"""How to reach peers: the shared sockets, connections by raw public keys, and the v0 exchange over them."""

from __future__ import annotations

from pypatcher.transport.admission import Admission
from pypatcher.transport.connection import Connection
from pypatcher.transport.endpoint import Endpoint
from pypatcher.transport.fetch import fetch_from, fetch_release
from pypatcher.transport.limiter import UploadLimiter
from pypatcher.transport.offer import receive_offer, send_offer
from pypatcher.transport.pace import StallRule
from pypatcher.transport.routes import internet_source
from pypatcher.transport.serve import Served, serve_release
from pypatcher.transport.stream import Stream
from pypatcher.transport.wire import CloseCode

__all__ = [
    "Admission",
    "CloseCode",
    "Connection",
    "Endpoint",
    "Served",
    "StallRule",
    "Stream",
    "UploadLimiter",
    "fetch_from",
    "fetch_release",
    "internet_source",
    "receive_offer",
    "send_offer",
    "serve_release",
]
