"""Which releases were heard of, and at which addresses: every source of addresses adds to it, the updater reads it.

Pure and bounded; the clock is passed in (monotonic seconds). Only releases that the OWNER signed may be added: the
caller checked that. An address here is a hint and no more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TypeAlias

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.crowds import Crowds
from pypatcher.version import Version

__all__ = ["Candidate", "Candidates"]

_LIFETIME = 900.0
_LIMIT, _MORE = 512, 32
"""So many are remembered; so many more before a look at all of them shows which are forgotten."""

_Key: TypeAlias = tuple[bytes, Address, bytes]
"""Node id, address, and of who speaks v1 the release's signature."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may hold a release at an address.

    Attributes:
        info: the release.
        node_id: the ed25519 key of the node that said so.
        address: where it may listen.
        source: where this was heard, for people.
        speaks_v1: it said that it speaks the v1 exchange.
        is_partial: it is fetching the release itself, and has some parts of it.
    """

    info: PatchInfo
    node_id: bytes
    address: Address
    source: str
    speaks_v1: bool = False
    is_partial: bool = False


class Candidates:
    """512 candidates, a few more at most, of the last 15 minutes.

    Those of older versions go first, then those where nobody proved to be, then of the largest crowd who was heard
    first: node ids cost nothing, nor do the addresses in a record, and one host has many ports.
    """

    def __init__(self) -> None:
        self._heard: OrderedDict[_Key, tuple[Candidate, float]] = OrderedDict()

    def add(self, candidates: Iterable[Candidate], now: float, proven: Container[Address] = ()) -> None:
        """Hear of them, again or for the first time; a node's newer word replaces its older one.

        Who speaks v1 may hold several, and says so.

        Args:
            proven: where a node of the namespace answered.
        """
        for candidate in candidates:
            key = candidate.node_id, candidate.address, candidate.info.signature if candidate.speaks_v1 else b""
            self._heard[key] = candidate, now
            self._heard.move_to_end(key)
        if (excess := len(self._heard) - _LIMIT) > _MORE:
            for key in list(islice(self._first_to_go(proven), excess)):
                del self._heard[key]

    def _first_to_go(self, proven: Container[Address]) -> Iterator[_Key]:
        def worth(key: _Key) -> tuple[Version, bool]:
            return self._heard[key][0].info.version, key[1] in proven

        for _, group in groupby(sorted(self._heard, key=worth), worth):
            crowds, keys = Crowds[_Key](), list(group)
            for key in keys:
                crowds.add(key, key[1])
            for _ in keys:
                gone = crowds.first_to_go()
                crowds.remove(gone, gone[1])
                yield gone

    def releases(self, now: float) -> dict[PatchInfo, list[Candidate]]:
        """What may be had, the newest version first, with those who may have it, last heard first."""
        while self._heard:
            key, (_, heard) = next(iter(self._heard.items()))
            if now - heard < _LIFETIME:
                break
            del self._heard[key]
        found: dict[PatchInfo, list[Candidate]] = {}
        for candidate, _ in reversed(self._heard.values()):
            found.setdefault(candidate.info, []).append(candidate)
        return dict(sorted(found.items(), key=lambda item: item[0].version, reverse=True))
