"""A release from one device to another: the exchange, offers, and how slow is too slow.

Not here: which release a device takes and when (``update``), and how peers are found and reached.
"""

from __future__ import annotations

from pypatcher.transfer.client import fetch_from, fetch_release
from pypatcher.transfer.offer import receive_offer
from pypatcher.transfer.server import serve_release
from pypatcher.transfer.stall import StallRule

__all__ = [
    "StallRule",
    "fetch_from",
    "fetch_release",
    "receive_offer",
    "serve_release",
]
