"""A BitTorrent Mainline DHT node (BEP 5, 32, 42, 43, 44) on asyncio, and a testnet made of such nodes.

Not here: what is stored under which name, and anything of releases or QUIC (``discovery``, ``transport``).
"""

from __future__ import annotations

from pypatcher.dht.facade import Dht
from pypatcher.dht.knock import Answered
from pypatcher.dht.node import DhtNode
from pypatcher.dht.nodeid import Contact
from pypatcher.dht.results import ItemAnswer, ItemLookup, MutableLookup, PeersLookup
from pypatcher.dht.testnet import Testnet
from pypatcher.dht.udp import UdpDht
from pypatcher.mutable_item import MutableItem, mutable_target

__all__ = [
    "Answered",
    "Contact",
    "Dht",
    "DhtNode",
    "ItemAnswer",
    "ItemLookup",
    "MutableItem",
    "MutableLookup",
    "PeersLookup",
    "Testnet",
    "UdpDht",
    "mutable_target",
]
