"""What every source of addresses is: one way of learning where other nodes are, with limits of its own.

Here stand the protocol, what a source tells, and what it is given. Not here: any particular source, and who reads what
they tell. A source adds itself by one file and one line in ``sources/__init__.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.dht import Dht
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.namespace import Namespace
from pypatcher.discovery.word import WordKeeper
from pypatcher.events import Emit
from pypatcher.keys import KeyPair
from pypatcher.settings import Settings

__all__ = ["AddressLimits", "AddressSource", "Found", "Listener", "SourceHost", "Surroundings"]


@dataclass(frozen=True, slots=True)
class AddressLimits:
    """What the addresses of one kind may cost; who names them cannot exceed it, and starves no other kind.

    Attributes:
        name: of the kind.
        room: most addresses that are remembered.
        knocks: most knocks a minute at those among them that were not reached yet.
        adds_to_crowd: whether those who are named are not in the estimate of the crowd that a swarm makes.
        are_neighbours: whether they were heard on a link of this machine, so that nobody far away can have named them.
    """

    name: str
    room: int
    knocks: int
    adds_to_crowd: bool = False
    are_neighbours: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a source tells: addresses, each a hint and no more.

    Attributes:
        limits: whose budget they count in.
        addresses: most trusted first.
        candidates: who is said to hold which release; the owner signed each of these. Their addresses count as well.
        crowd: about so many nodes are there in all; None if that cannot be told.
        may_hold_wanted: whether they are said to have a release that is wanted here.
        is_look: whether this is all that one look for releases found, be it nothing.
        is_answer: whether somebody answered who would have named what is new, by the way that this source is.
    """

    limits: AddressLimits
    addresses: Sequence[Address] = ()
    candidates: Sequence[Candidate] = ()
    crowd: int | None = None
    may_hold_wanted: bool = False
    is_look: bool = False
    is_answer: bool = False


class Listener(Protocol):
    """Whoever is told what sources find."""

    def hear(self, found: Found) -> None:
        """Take it; called in the loop, returns at once."""


class AddressSource(Protocol):
    """One way of learning where other nodes are."""

    @property
    def name(self) -> str:
        """One word, for logs."""

    @property
    def limits(self) -> Sequence[AddressLimits]:
        """Of every kind of addresses that it tells."""

    async def run(self, listener: Listener) -> None:
        """Find others and let us be found, until cancelled."""

    async def look(self) -> Found:
        """Ask once who is there, without announcing that we have or want anything."""

    def address_changed(self) -> None:
        """Our address changed."""

    def announce(self, info: PatchInfo | None) -> None:
        """This node serves that release now; None: nothing."""

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """These releases are known of and wanted, the newest first. None: whatever there is, nobody here takes it."""


class SourceHost(Protocol):
    """A node's place in the network, as its sources see it."""

    @property
    def namespace(self) -> Namespace:
        """Whose nodes are sought."""

    @property
    def identity(self) -> KeyPair:
        """The node's key pair."""

    @property
    def dht(self) -> Dht:
        """Its DHT node."""

    @property
    def ports(self) -> dict[int, int]:
        """Our UDP port by family, 4 and 6, where somebody beyond this machine can reach it."""

    async def joined(self) -> None:
        """Wait until the DHT has somebody to ask and it is known where others reach us, but not for long."""

    def own_addresses(self) -> tuple[Address, ...]:
        """Where others may reach us, as far as we know."""

    def mapped_port(self) -> int | None:
        """The port under which to be announced; None is the one that others see."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source is made from.

    Attributes:
        clock: monotonic seconds.
        word: who keeps the owner's word; None where nobody does.
        crowd: about how many nodes there are in all; None while that is not known.
        may_rest: whether it may do less while nothing is new; a seed is there to be found.
    """

    host: SourceHost
    settings: Settings
    emit: Emit
    rng: random.Random
    clock: Callable[[], float]
    word: WordKeeper | None = None
    crowd: Callable[[], int | None] = lambda: None
    may_rest: bool = True
