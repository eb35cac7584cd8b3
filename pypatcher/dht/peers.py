"""What a lookup of peers (BEP 5) found, and whose word counts when the nodes that were asked name different ones.

Pure. Each node asked has one voice a peer, so that one liar with ten thousand addresses stays one voice: who is named
by the most nodes comes first, equals in turns by who named them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

from pypatcher.addresses import Address
from pypatcher.dht.search import StoringNode

__all__ = ["PeerPoll", "PeersLookup"]

_MOST_PEERS = 2000
_MOST_EACH = 500
_COUNTED_A_HOST = 8


@dataclass(frozen=True, slots=True)
class PeersLookup:
    """What a lookup of an info-hash found.

    Attributes:
        info_hash: 20 bytes.
        peers: at most 2000 a family, those named by the most nodes first.
        confirmed: about how many peers these are: those that two nodes or more named, at most 8 a host, and one for
            each other host that they named, since some routers show every node another port; all peers where only one
            node named any.
        nodes: where to announce, nearest first, at most 20 a family.
        time: when it ended, on the node's clock.
    """

    info_hash: bytes
    peers: tuple[Address, ...]
    confirmed: int
    nodes: tuple[StoringNode, ...]
    time: float


class PeerPoll:
    """Collects the answers of one lookup."""

    def __init__(self) -> None:
        self._answers: list[list[Address]] = []

    def add(self, peers: Iterable[Address]) -> None:
        """Count one node's answer; beyond 500 peers it is not read."""
        distinct = list(dict.fromkeys(islice(peers, _MOST_EACH)))
        if distinct:
            self._answers.append(distinct)

    def result(self) -> tuple[tuple[Address, ...], int]:
        """The peers in their order, and about how many peers that are."""
        voices: OrderedDict[Address, int] = OrderedDict()
        for peer in chain.from_iterable(zip_longest(*self._answers)):
            if peer is not None:
                voices[peer] = voices.get(peer, 0) + 1
        peers = tuple(sorted(voices, key=lambda peer: -voices[peer])[:_MOST_PEERS])
        if len(self._answers) <= 1:
            return peers, len(peers)
        confirmed = Counter(peer[0] for peer in peers if voices[peer] > 1)
        hosts = Counter(host for answer in self._answers for host in {peer[0] for peer in answer})
        return peers, sum(max(count > 1, min(confirmed[host], _COUNTED_A_HOST)) for host, count in hosts.items())
