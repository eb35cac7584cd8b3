"""Which address others see us at: votes from the ``ip`` field of answers (BEP 42).

Pure. One voice a network (/24 or /48), so that one liar with many nodes stays one voice; nodes that are near (LAN,
loopback) speak for their own address each. The newest 64 voices count.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from pypatcher.addresses import Address, budget_group
from pypatcher.dht.limits import is_near

__all__ = ["ExternalVotes"]

_VOICES = 64
_QUORUM = 3


class ExternalVotes:
    """Collects what others say our address is, and tells what most of them agree on."""

    def __init__(self) -> None:
        self._votes: OrderedDict[str, Address] = OrderedDict()
        self._near: set[str] = set()

    def add(self, voter: Address, observed: Address) -> None:
        """Count what the node at ``voter`` sees; its network's earlier word is replaced."""
        near = is_near(voter)
        voice = voter[0] if near else budget_group(voter)
        self._votes.pop(voice, None)
        self._votes[voice] = observed
        if near:
            self._near.add(voice)
        if len(self._votes) > _VOICES:
            gone, _ = self._votes.popitem(last=False)
            self._near.discard(gone)

    @property
    def address(self) -> Address | None:
        """The host that more than half of at least 3 networks name (near ones: any number), with its commonest port."""
        if not self._votes or (len(self._votes) < _QUORUM and not self._near):
            return None
        host, count = Counter(host for host, _ in self._votes.values()).most_common(1)[0]
        if 2 * count <= len(self._votes):
            return None
        ports = Counter(port for seen, port in self._votes.values() if seen == host)
        return host, ports.most_common(1)[0][0]

    @property
    def port_varies(self) -> bool | None:
        """Whether voters see different ports, as behind a router with endpoint-dependent mapping; None: too few."""
        address = self.address
        if address is None or len(self._votes) < _QUORUM:
            return None
        ports = Counter(port for host, port in self._votes.values() if host == address[0])
        return 2 * ports.most_common(1)[0][1] <= ports.total()
