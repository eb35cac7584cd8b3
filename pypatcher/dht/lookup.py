"""One iterative lookup (Kademlia): whom to ask next on the way to the nodes nearest to a target, and when to stop.

Sans-IO: told who answered what, who is slow and who failed, it names the next nodes to ask; it knows neither sockets
nor time. Against hostile answers: a bounded number of nodes is asked and remembered; one candidate per address; away
from the LAN a few per host and per /24 or /48 (``crowd``); a node far away cannot send us into a LAN; who named only
nodes that failed is not believed any further. A slow node frees its place for others but still counts when it answers.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from pypatcher.addresses import Address, is_lan, network_of, provider_of
from pypatcher.dht.crowd import Crowd, Near
from pypatcher.dht.nodeid import Contact, distance, is_secure

__all__ = ["ALPHA", "MAX_QUERIES", "NEAREST", "Lookup"]

ALPHA = 5
"""Queries under way at once."""
NEAREST = 20
"""How many nodes a lookup ends with, and a value is stored on."""
MAX_QUERIES = 100
"""Nodes that one lookup may ask, whatever hostile answers name."""
_PER_PROVIDER = 3
"""Places of one /16 or /32: in IPv6 ids that BEP 42 allows cost nothing."""
_INSECURE = 10
"""Places for ids that BEP 42 does not allow at their address."""
_ANYHOW = 8
"""So many places are filled whatever these two say: small and private networks work."""
_MAX_CANDIDATES = 200
_FORGIVEN = 8
"""Of a network, how many that did not answer make room for others."""
_DISBELIEF = 6


class _State(enum.Enum):
    FRESH = enum.auto()
    ASKED = enum.auto()
    SLOW = enum.auto()
    ANSWERED = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True, eq=False)
class _Candidate:
    """Equal to itself alone: others may claim its id, and so have its distance. ``provider`` is None of those near."""

    distance: int
    contact: Contact
    is_secure: bool
    provider: str | None
    state: _State = _State.FRESH
    is_counted: bool = True
    sources: set[Address] = field(default_factory=set)


_DISTANCE = attrgetter("distance")


class Lookup:
    """A lookup of ``target`` from ``seeds`` on; it leaves out ourselves (``own_id``) and whom ``avoid`` names."""

    def __init__(
        self,
        target: bytes,
        seeds: Iterable[Contact],
        *,
        own_id: bytes,
        max_queries: int = MAX_QUERIES,
        avoid: Callable[[Address], bool] = lambda _: False,
        near: Near | None = None,
    ) -> None:
        self.target = target
        self.queries = 0
        self._active = 0
        self._own_id = own_id
        self._max_queries = max_queries
        self._avoid = avoid
        self._is_near = near or Near()
        self._sorted: list[_Candidate] = []
        self._by_address: dict[Address, _Candidate] = {}
        self._crowd = Crowd(self._is_near)
        self._forgiven: Counter[str] = Counter()
        self._credit: Counter[Address] = Counter()
        for contact in seeds:
            self._add(contact, None)

    def next_queries(self) -> list[Contact]:
        """Whom to ask now; each is then expected to answer, be slow or fail."""
        asked: list[Contact] = []
        places = self._places(_State.FRESH, _State.ASKED, _State.ANSWERED)
        while doubtful := [place for place in places if place.state is _State.FRESH and self._is_disbelieved(place)]:
            for place in doubtful:
                self._end(place)
            places = self._places(_State.FRESH, _State.ASKED, _State.ANSWERED)
        for place in places:
            if self._active >= ALPHA or self.queries >= self._max_queries:
                break
            if place.state is _State.FRESH:
                self._become(place, _State.ASKED)
                asked.append(place.contact)
                self.queries += 1
        return asked

    @property
    def finished(self) -> bool:
        """Whether the nearest nodes that live have answered; call after ``next_queries``."""
        states = {_State.ASKED, _State.SLOW, _State.ANSWERED}
        if self.queries < self._max_queries:
            states.add(_State.FRESH)
        return all(place.state is _State.ANSWERED for place in self._places(*states))

    def answered(self, contact: Contact, sender: bytes, nodes: Iterable[Contact]) -> None:
        """The node at ``contact.address`` answered as ``sender`` and named ``nodes``."""
        candidate = self._by_address.get(contact.address)
        if candidate is None or candidate.state in (_State.ANSWERED, _State.FAILED):
            return
        if sender == self._own_id:
            self._fail(candidate)
            return
        if sender != candidate.contact.id:
            self._sorted.remove(candidate)
            candidate.contact = Contact(sender, contact.address)
            candidate.distance = distance(sender, self.target)
            candidate.is_secure = is_secure(sender, contact.address[0])
            insort(self._sorted, candidate, key=_DISTANCE)
        self._become(candidate, _State.ANSWERED)
        for source in candidate.sources:
            self._credit[source] += 2
        for node in nodes:
            if is_lan(contact.address) or not is_lan(node.address):
                self._add(node, contact.address)

    def slow(self, contact: Contact) -> None:
        """A node is asked once more; others may take its place meanwhile."""
        candidate = self._by_address.get(contact.address)
        if candidate is not None and candidate.state is _State.ASKED:
            self._become(candidate, _State.SLOW)

    def failed(self, contact: Contact) -> None:
        """A node did not answer, or with an error."""
        candidate = self._by_address.get(contact.address)
        if candidate is not None and candidate.state in (_State.ASKED, _State.SLOW):
            self._fail(candidate)

    def closest(self) -> list[Contact]:
        """The nodes nearest to the target that answered and have one of the 20 places, nearest first."""
        return [place.contact for place in self._places(_State.ANSWERED)]

    def _places(self, *states: _State) -> list[_Candidate]:
        """Who has the 20 places, of those in one of these states, nearest first."""
        places: list[_Candidate] = []
        others: list[_Candidate] = []
        providers: Counter[str] = Counter()
        insecure = 0
        for candidate in self._sorted:
            if len(places) >= NEAREST:
                break
            if candidate.state not in states:
                continue
            provider = candidate.provider
            if provider is not None:
                is_one_too_many = not candidate.is_secure and insecure >= _INSECURE
                if is_one_too_many or providers[provider] >= _PER_PROVIDER:
                    others.append(candidate)
                    continue
                providers[provider] += 1
                insecure += not candidate.is_secure
            places.append(candidate)
        if others and len(places) < _ANYHOW:
            places = sorted([*places, *others[: _ANYHOW - len(places)]], key=_DISTANCE)
        return places

    def _become(self, candidate: _Candidate, state: _State) -> None:
        self._active += (state is _State.ASKED) - (candidate.state is _State.ASKED)
        candidate.state = state

    def _end(self, candidate: _Candidate) -> None:
        """It has no place any more, nor in the crowd: wrong names of a host or network must not hide the true ones."""
        self._become(candidate, _State.FAILED)
        network = network_of(candidate.contact.address)
        if self._forgiven[network] < _FORGIVEN:
            self._forgiven[network] += 1
            self._crowd.remove(candidate.contact.address)
            candidate.is_counted = False

    def _fail(self, candidate: _Candidate) -> None:
        self._end(candidate)
        for source in candidate.sources:
            self._credit[source] -= 1

    def _is_disbelieved(self, candidate: _Candidate) -> bool:
        if not candidate.sources:
            return False
        address = candidate.contact.address
        if self._is_near(address) and not is_lan(address) and self._forgiven[network_of(address)] >= _FORGIVEN:
            return True  # any number may be named at a trusted host, which may have a public node beside others' names
        return all(self._credit[source] <= -_DISBELIEF for source in candidate.sources)

    def _add(self, contact: Contact, source: Address | None) -> None:
        known = self._by_address.get(contact.address)
        if known is not None:
            if source is not None and known.state is _State.ANSWERED:
                self._credit[source] += 2
            elif source is not None and known.sources and len(known.sources) < NEAREST:
                known.sources.add(source)
            return
        if contact.id == self._own_id or not self._crowd.has_room(contact.address) or self._avoid(contact.address):
            return
        candidate = _Candidate(
            distance(contact.id, self.target),
            contact,
            is_secure(contact.id, contact.address[0]),
            None if self._is_near(contact.address) else provider_of(contact.address),
            sources={source} if source else set(),
        )
        if len(self._sorted) >= _MAX_CANDIDATES and not self._drop_farther_than(candidate):
            return
        insort(self._sorted, candidate, key=_DISTANCE)
        self._by_address[contact.address] = candidate
        self._crowd.add(contact.address)

    def _drop_farther_than(self, newcomer: _Candidate) -> bool:
        for index in range(len(self._sorted) - 1, -1, -1):
            candidate = self._sorted[index]
            if candidate.distance <= newcomer.distance:
                return False
            if candidate.state in (_State.FRESH, _State.FAILED):
                del self._sorted[index]
                del self._by_address[candidate.contact.address]
                if candidate.is_counted:
                    self._crowd.remove(candidate.contact.address)
                return True
        return False
