"""Which hosts were reached and which were silent, however often their addresses are dropped and named again.

Pure and bounded; times are monotonic seconds. A stranger is its host, whatever its port: a hundred ports of one host
are one host. On the LAN and on loopback, where nodes share hosts, it is the address. Of the silent who was used least
recently is forgotten first, of those that were reached the oldest of the largest crowd. Not here: when the next knock
is due (``knock_queue``).
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pypatcher.addresses import Address, machine_of
from pypatcher.bounded import bound, note
from pypatcher.crowds import FairTable
from pypatcher.nat.punch_times import WINDOW

__all__ = ["PeerHistory"]

_PROVEN = 3600.0
_NEAR_PAUSES = (2.0, 300.0)
_PROVEN_PAUSE = 5.0
_MOVED_FAILURES = 2


@dataclass(slots=True)
class _Silence:
    failures: int = 0
    until: float = 0.0


class PeerHistory:
    """What one node remembers of the hosts that it knocked at or met.

    Args:
        is_near: who is near.
    """

    def __init__(self, rng: random.Random, is_near: Callable[[Address], bool]) -> None:
        self._rng = rng
        self._is_near = is_near
        self._silent: OrderedDict[object, _Silence] = OrderedDict()
        self._proven = FairTable[float]()
        self._proven_hosts: OrderedDict[object, float] = OrderedDict()

    def is_proven(self, address: Address, now: float) -> bool:
        """Whether it was reached within the last hour."""
        return now - self._proven.get(address, float("-inf")) < _PROVEN

    def prove(self, address: Address, now: float) -> None:
        """It was reached."""
        self._proven.note(address, now)
        note(self._proven_hosts, self._host(address), now)

    def failures(self, address: Address) -> int:
        """How often its host was tried in vain since it was last reached."""
        silence = self._silent.get(self._host(address))
        return 0 if silence is None else silence.failures

    def quiet_until(self, address: Address, now: float) -> float:
        """Until when its host gets no knock; ``now`` is at once."""
        silence = self._silent.get(self._host(address))
        return now if silence is None else silence.until

    def tried(self, address: Address, now: float) -> None:
        """It counts as silent until it answers: a crash or a cancelled task must not make it due again at once."""
        key = self._host(address)
        silence = self._silent.setdefault(key, _Silence())
        self._silent.move_to_end(key)
        if self._is_near(address):
            first, limit = _NEAR_PAUSES
            pause = min(first * 2 ** min(silence.failures, 16), limit) * self._rng.uniform(1.0, 1.25)
        elif now - self._proven_hosts.get(key, float("-inf")) < _PROVEN and silence.failures == 0:
            pause = _PROVEN_PAUSE
        else:
            # The next moment is drawn; this keeps the one that has just come from coming twice.
            pause = WINDOW
        silence.failures += 1
        silence.until = now + pause
        bound(self._silent)

    def answered(self, address: Address, now: float) -> None:
        """It answered after all, whatever will come of it."""
        silence = self._silent.get(self._host(address))
        if silence is not None:
            silence.until = now

    def reached(self, address: Address, now: float) -> None:
        """It proved to be a node of ours: its failures are forgotten."""
        self._silent.pop(self._host(address), None)
        self.prove(address, now)

    def failed(self, address: Address, now: float) -> None:
        """It answered and could not be dialed: it is a stranger again."""
        self._proven.forget(address)
        self._proven_hosts.pop(self._host(address), None)
        self.tried(address, now)

    def forgive(self) -> None:
        """Our address changed: much of the silence was ours."""
        for silence in self._silent.values():
            silence.failures = min(silence.failures, _MOVED_FAILURES)

    def _host(self, address: Address) -> object:
        return address if self._is_near(address) else machine_of(address)
