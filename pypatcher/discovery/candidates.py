"""Which releases were heard of, and at which addresses: every source of addresses adds to it, the updater reads it.

Pure and bounded; the clock is passed in (monotonic seconds). Only releases that the OWNER signed may be added: the
caller checked that. An address here is a hint and no more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo

__all__ = ["Candidate", "Candidates"]

_LIFETIME = 900.0
_LIMIT = 512


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
    """At most 512 candidates of the last 15 minutes; those of older versions go first, then who was heard first."""

    def __init__(self) -> None:
        self._heard: OrderedDict[tuple[bytes, Address, bytes], tuple[Candidate, float]] = OrderedDict()

    def add(self, candidates: Iterable[Candidate], now: float) -> None:
        """Hear of them, again or for the first time; a node's newer word replaces its older one.

        Who speaks v1 may hold several, and says so.
        """
        for candidate in candidates:
            key = candidate.node_id, candidate.address, candidate.info.signature if candidate.speaks_v1 else b""
            self._heard[key] = candidate, now
            self._heard.move_to_end(key)
        # Node ids cost nothing: whoever repeats an old release under many must not crowd out holders of the new one.
        if (excess := len(self._heard) - _LIMIT) > 0:
            for key in sorted(self._heard, key=lambda key: self._heard[key][0].info.version)[:excess]:
                del self._heard[key]

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
