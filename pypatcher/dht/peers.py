"""Which peers a lookup (BEP 5) found, when the nodes that were asked name different ones.

Pure. Each node has one vote per peer, so that one liar with ten thousand addresses has one vote: who is named by the
most nodes comes first; those named by equally many are taken from the nodes in turn. Not here: who was asked
(``lookup``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from itertools import chain, islice, zip_longest

from pypatcher.addresses import Address, machine_of

__all__ = ["PeerPoll"]

_MOST_PEERS = 2000
_MOST_EACH = 500
_COUNTED_A_HOST = 8


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
        confirmed = Counter(machine_of(peer) for peer in peers if voices[peer] > 1)
        hosts = Counter(host for answer in self._answers for host in {machine_of(peer) for peer in answer})
        return peers, sum(max(count > 1, min(confirmed[host], _COUNTED_A_HOST)) for host, count in hosts.items())
