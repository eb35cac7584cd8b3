"""Of a full table that strangers fill: which entry goes first, so that none of them pushes out what others have there.

Pure. Not here: what a table holds, and for how long.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeAlias, TypeVar

from pypatcher.addresses import Address, machine_of, network_of, provider_of
from pypatcher.bounded import TABLE_LIMIT

__all__ = ["Crowds", "FairTable"]

_Path: TypeAlias = tuple[str, ...]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Crowds(Generic[_Key]):
    """Keys by where they came from, and which of them goes first: the oldest of the largest crowd.

    The largest provider's, in it of the largest network, in it of the largest host: for a crowd of addresses that one
    writer has pushes out nobody but itself, however large the network is that they are in.
    """

    def __init__(self) -> None:
        self._keys: dict[_Path, OrderedDict[_Key, None]] = {}
        self._sizes: Counter[_Path] = Counter()
        # Of each crowd its parts by their size: which is the largest is asked for each newcomer to a full table.
        self._ranks: dict[_Path, list[dict[_Path, None]]] = {}

    def add(self, key: _Key, source: Address) -> None:
        """A key came from there, and is the last of its host's to go."""
        path = _path(source)
        self._keys.setdefault(path, OrderedDict())[key] = None
        for depth in range(1, len(path) + 1):
            self._resize(path[:depth], 1)

    def remove(self, key: _Key, source: Address) -> None:
        """It is gone."""
        path = _path(source)
        del self._keys[path][key]
        if not self._keys[path]:
            del self._keys[path]
        for depth in range(len(path), 0, -1):
            self._resize(path[:depth], -1)

    def first_to_go(self) -> _Key:
        """Which of them; there is one at least."""
        path: _Path = ()
        while path in self._ranks:
            path = next(iter(self._ranks[path][-1]))
        return next(iter(self._keys[path]))

    def _resize(self, part: _Path, by: int) -> None:
        """One more or one less: the largest crowd's size changes by one at most, so nothing is searched."""
        ranks, size = self._ranks.setdefault(part[:-1], [{}]), self._sizes[part]
        ranks[size].pop(part, None)
        self._sizes[part] = size = size + by
        if size == len(ranks):
            ranks.append({})
        if size:
            ranks[size][part] = None
        else:
            del self._sizes[part]
        while ranks and not ranks[-1]:
            ranks.pop()
        if not ranks:
            del self._ranks[part[:-1]]


def _path(source: Address) -> _Path:
    return provider_of(source), network_of(source), machine_of(source)


class FairTable(dict[Address, _Value]):
    """What is known of addresses: of 4096 at most, the last one noted at the end; changed by these two alone.

    Not the oldest goes: whoever dials us from many ports is no reason to forget anybody else.
    """

    def __init__(self) -> None:
        super().__init__()
        self._crowds: Crowds[Address] = Crowds()

    def note(self, address: Address, value: _Value) -> None:
        """Set it."""
        self.forget(address)
        self[address] = value
        self._crowds.add(address, address)
        if len(self) > TABLE_LIMIT:
            self.forget(self._crowds.first_to_go())

    def forget(self, address: Address) -> None:
        """Drop it, if it is there."""
        if address in self:
            del self[address]
            self._crowds.remove(address, address)
