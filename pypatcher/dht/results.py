"""What lookups return: the values found, and the nodes to write to, with their tokens.

Plain values that callers keep between a lookup and a write; no behaviour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pypatcher.addresses import Address, provider_of
from pypatcher.dht.nodeid import Contact
from pypatcher.mutable_item import MutableItem

__all__ = ["ItemAnswer", "ItemLookup", "MutableLookup", "PeersLookup", "StoringNode"]


@dataclass(frozen=True, slots=True)
class StoringNode:
    """A node near a target, with the token that lets us write there for the next minutes.

    Attributes:
        item: the mutable item that it keeps there, as it says; nothing of it was checked.
    """

    contact: Contact
    token: bytes = field(repr=False)
    item: MutableItem | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MutableLookup:
    """What a lookup of a mutable item found.

    Attributes:
        target: 20 bytes.
        items: every distinct valid item, the highest seq first.
        nodes: where to store, nearest first, at most 20 per family.
        time: when it ended, on the node's clock.
    """

    target: bytes
    items: tuple[MutableItem, ...]
    nodes: tuple[StoringNode, ...]
    time: float

    @property
    def share_of_one_network(self) -> float:
        """How much of its nodes, 0 to 1, is in the /16 or /32 that has the most of them; see ``_share``."""
        return _share(self.nodes)


@dataclass(frozen=True, slots=True)
class ItemAnswer:
    """What one node says of a mutable item; nothing of it was checked.

    Attributes:
        seq: of what it keeps; None: it keeps nothing.
        item: what it keeps; None: nothing, or nothing newer than what it was told is known.
    """

    contact: Contact
    seq: int | None
    item: MutableItem | None


@dataclass(frozen=True, slots=True)
class ItemLookup:
    """What a lookup of one item found, node by node.

    Attributes:
        target: 20 bytes.
        nearest: of the nodes that should keep it, at most 20 per family.
        others: of the nodes on the way there that keep something.
        nodes: where to store, nearest first, at most 20 per family.
        time: when it ended, on the node's clock.
    """

    target: bytes
    nearest: tuple[ItemAnswer, ...]
    others: tuple[ItemAnswer, ...]
    nodes: tuple[StoringNode, ...]
    time: float


@dataclass(frozen=True, slots=True)
class PeersLookup:
    """What a lookup of an info-hash found.

    Attributes:
        info_hash: 20 bytes.
        peers: at most 2000 per family, those named by the most nodes first.
        confirmed: about how many peers these are: those that two nodes or more named, at most 8 per host, and one for
            each other host that they named, since some routers show every node another port; all peers where only one
            node named any.
        nodes: where to announce, nearest first, at most 20 per family.
        time: when it ended, on the node's clock.
    """

    info_hash: bytes
    peers: tuple[Address, ...]
    confirmed: int
    nodes: tuple[StoringNode, ...]
    time: float

    @property
    def share_of_one_network(self) -> float:
        """How much of its nodes, 0 to 1, is in the /16 or /32 that has the most of them; see ``_share``."""
        return _share(self.nodes)


def _share(nodes: Sequence[StoringNode]) -> float:
    """Near 0 the word of many; from 0.4 on few networks were asked, be it for want of others or by somebody's doing."""
    providers = Counter(provider_of(node.contact.address) for node in nodes)
    return max(providers.values(), default=0) / max(1, len(nodes))
