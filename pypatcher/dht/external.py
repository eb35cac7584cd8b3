"""Which address others see us at: votes from the ``ip`` field of answers (BEP 42).

Pure. One vote per network (/24 or /48), so that one liar with many nodes has one vote; nodes on the LAN and on loopback
vote per address. Only the newest votes count. Not here: what is done with the address (``nat``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

from pypatcher.addresses import Address, format_address, is_lan, network_of
from pypatcher.dht.crowd import Near

__all__ = ["ExternalVotes"]

_VOICES = 64
_QUORUM = 3


class ExternalVotes:
    """Collects what others say our address is, and tells what most of them agree on."""

    def __init__(self, near: Near | None = None) -> None:
        self._is_near = near or Near()
        self._votes: OrderedDict[str, Address] = OrderedDict()
        self._near: set[str] = set()
        self._address: Address | None = None
        self._port_varies: bool | None = None

    def add(self, voter: Address, observed: Address) -> None:
        """Count what the node at ``voter`` sees; its network's earlier word is replaced."""
        near = self._is_near(voter)
        voice = format_address(voter) if near and not is_lan(voter) else network_of(voter)
        if self._votes.pop(voice, None) == observed and (voice in self._near) == near:
            self._votes[voice] = observed
            return
        self._votes[voice] = observed
        if near:
            self._near.add(voice)
        if len(self._votes) > _VOICES:
            gone, _ = self._votes.popitem(last=False)
            self._near.discard(gone)
        votes = self._counted()  # when a voice says something new, for both are asked with every answer
        self._address = _elected(votes)
        self._port_varies = _varies(votes, self._address)

    @property
    def address(self) -> Address | None:
        """The host that more than half of at least 3 networks name, with its commonest port.

        Only where there are no 3 networks, as in a private DHT, the voices from nearby count too, however few.
        """
        return self._address

    @property
    def port_varies(self) -> bool | None:
        """Whether voters see different ports, as behind a router with endpoint-dependent mapping; None: too few."""
        return self._port_varies

    def _counted(self) -> list[Address]:
        far = [seen for voice, seen in self._votes.items() if voice not in self._near]
        if len(far) >= _QUORUM:
            return far
        return list(self._votes.values()) if self._near else []


def _elected(votes: Sequence[Address]) -> Address | None:
    if not votes:
        return None
    host, count = Counter(host for host, _ in votes).most_common(1)[0]
    if 2 * count <= len(votes):
        return None
    ports = Counter(port for seen, port in votes if seen == host)
    return host, ports.most_common(1)[0][0]


def _varies(votes: Sequence[Address], elected: Address | None) -> bool | None:
    if elected is None or len(votes) < _QUORUM:
        return None
    ports = Counter(port for host, port in votes if host == elected[0])
    return 2 * ports.most_common(1)[0][1] <= ports.total()
