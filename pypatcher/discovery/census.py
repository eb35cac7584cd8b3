"""Who is there, counted in one place: what sources heard, what nodes said, and who proved to be of the namespace.

Read by the updater (what may be had), by ``fetch`` (how many agree), by ``seed`` (is there something newer) and by
``netcheck`` (who answers). Pure and bounded; the clock is passed in (monotonic seconds). Who may be dialed and when is
not decided here: see ``nat``.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import replace

from pypatcher.addresses import Address, is_loopback, network_of
from pypatcher.artifact import PatchInfo
from pypatcher.bounded import bound, note
from pypatcher.crowds import FairTable
from pypatcher.discovery.announcement import usable_hints
from pypatcher.discovery.candidates import Candidate, Candidates
from pypatcher.discovery.sources.source import Found
from pypatcher.version import Version
from pypatcher.waiting import News

__all__ = ["Census"]

_VOICES = 4096


class Census:
    """What one node knows of the others, counted once.

    Attributes:
        news: told whenever something here changes, or a way to somebody opens.
        looks: how many looks for releases ended.
        found_by_look: how many candidates the last one found.
        answers: how often somebody answered who would have named what is new, by other ways than such looks.
        crowd: about how many nodes there are in all; None while that is not known.
        last_met: when a node of the namespace last proved to be there; None for never.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.news = News()
        self.looks = self.found_by_look = self.answers = 0
        self.crowd: int | None = None
        self.last_met: float | None = None
        self._candidates = Candidates()
        self._voices: dict[bytes, Candidate] = {}
        self._heard: OrderedDict[Address, None] = OrderedDict()
        self._proven = FairTable[None]()
        self._met: OrderedDict[Hashable, PatchInfo] = OrderedDict()
        self._v1 = FairTable[bool]()
        self._own: tuple[Address, ...] = ()
        self._ourselves: OrderedDict[Address, None] = OrderedDict()

    def hear(self, found: Found, own: Iterable[Address]) -> Found:
        """Count what a source told; what is left of it without addresses that are worth no packet.

        Args:
            own: where others may reach us.
        """
        self._note_own(tuple(own))
        self.crowd = self.crowd if found.crowd is None else found.crowd
        candidates = [each for each in found.candidates if self._usable([each.address])]
        addresses = self._usable([*found.addresses, *(each.address for each in candidates)])
        self._candidates.add(candidates, self._clock(), self._proven)
        for each in candidates:
            if not each.is_partial:
                self._note_voice(each)
        for address in addresses:
            self._heard[address] = None
        bound(self._heard)
        if found.is_look:
            self.looks, self.found_by_look = self.looks + 1, len(candidates)
        self.answers += found.is_answer
        if candidates or addresses or found.is_look or found.is_answer:
            self.news.tell()
        return replace(found, addresses=addresses, candidates=candidates)

    def add(self, candidate: Candidate) -> None:
        """Somebody said this to us, on a connection."""
        self.meet(candidate.address, [candidate.info])
        self._candidates.add([candidate], self._clock(), self._proven)
        self._note_voice(candidate)
        self.news.tell()

    def prove(self, address: Address) -> None:
        """A node of the namespace is there."""
        self.last_met = self._clock()
        self._proven.note(address, None)

    def meet(self, address: Address, held: Iterable[PatchInfo]) -> None:
        """A node said on a connection what it holds: one voice for each network, and each LAN host, at most."""
        self.last_met = self._clock()
        # On this very machine a process is as good as a network: testnets live there.
        network: Hashable = address if is_loopback(address) else network_of(address)
        newest = max(held, key=lambda info: info.version, default=None)
        if newest is not None:
            note(self._met, network, newest)

    def met(self, version: Version) -> Counter[PatchInfo]:
        """The releases of that version, and in how many networks a node that was met holds each as its newest."""
        return Counter(info for info in self._met.values() if info.version == version)

    def note_v1(self, address: Address, speaks: bool) -> None:
        """A node of the namespace there said whether it speaks the v1 exchange."""
        self._v1.note(address, speaks)

    def speaks_v1(self, address: Address) -> bool | None:
        """Whether the node there speaks the v1 exchange, as it said itself; None: it was not asked yet."""
        return self._v1.get(address)

    def is_us(self, address: Address) -> None:
        """It turned out to be ourselves."""
        self._ourselves[address] = None
        bound(self._ourselves)
        self._heard.pop(address, None)

    @property
    def heard(self) -> Collection[Address]:
        """Addresses that were heard of, but for our own."""
        return self._heard.keys()

    @property
    def proven(self) -> Collection[Address]:
        """Addresses where a node of the namespace answered, who did so last at the end."""
        return self._proven.keys()

    def releases(self) -> dict[PatchInfo, list[Candidate]]:
        """What may be had, the newest version first, with those who may have it, last heard first."""
        return self._candidates.releases(self._clock())

    @property
    def voices(self) -> int:
        """How many nodes have said what they have."""
        return len(self._voices)

    @property
    def newest(self) -> Candidate | None:
        """The newest release that any node named, and who named it first."""
        return max(self._voices.values(), key=lambda each: each.info.version, default=None)

    @property
    def newest_version(self) -> Version:
        """The newest version that any node named; 0.0.0 if none did."""
        return Version(0, 0, 0) if self.newest is None else self.newest.info.version

    def named(self, version: Version) -> Counter[PatchInfo]:
        """The releases of that version, and how many nodes named each as their newest."""
        return Counter(each.info for each in self._voices.values() if each.info.version == version)

    def _note_own(self, own: tuple[Address, ...]) -> None:
        if own != self._own:
            self._own = own
            self._ourselves.clear()

    def _usable(self, addresses: Iterable[Address]) -> list[Address]:
        return [each for each in usable_hints(addresses, self._own) if each not in self._ourselves]

    def _note_voice(self, said: Candidate) -> None:
        """A node's word is the newest version that it named."""
        before = self._voices.get(said.node_id)
        if before is None and len(self._voices) >= _VOICES and said.info.version <= self.newest_version:
            return
        if before is None or said.info.version > before.info.version:
            self._voices[said.node_id] = said
