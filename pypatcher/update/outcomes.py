"""What the end of a transfer means for whoever gave it: whose fault it was, what it cost, and that it is said.

Not here: the budgets themselves (``budgets.peer_budget``), and what is fetched next (``updater``).
"""

from __future__ import annotations

from collections.abc import Callable

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.budgets.peer_budget import FetchBudget
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.events import Emit, FetchFailed
from pypatcher.nat.ways import Reachability
from pypatcher.transfer.download import Delivery

__all__ = ["Outcomes"]

_GIVERS = 16
"""Who gave less than such a part of it gave next to nothing."""


class Outcomes:
    """One device's.

    Args:
        budget: what peers cost so far.
        ways: told who is there, and who was dialed in vain.
        moves: how often others began to reach us somewhere else.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        budget: FetchBudget,
        ways: Callable[[], Reachability],
        moves: Callable[[], int],
        emit: Emit,
        clock: Callable[[], float],
    ) -> None:
        self._budget, self._ways, self._moves, self._emit, self._clock = budget, ways, moves, emit, clock

    def failed(self, delivery: Delivery, error: Exception, moves: int) -> None:
        """A fetch from one peer ended without a release; ``moves`` as they were when it began."""
        address = delivery.candidate.address
        self.say(delivery, str(error))
        if isinstance(error, PeerError) and self._broke(address, delivery.received, moves):
            return
        self._count(delivery.candidate.info, address, error, delivery.received, delivery.received)

    def one_ended(self, delivery: Delivery, address: Address, came: int, error: PeerError | None, wasted: int) -> None:
        """One of several peers is asked no more, while the fetch goes on with the others."""
        info = delivery.candidate.info
        moves = delivery.givers.pop(address, self._moves())
        if error is None:
            delivery.gave[address] += came - wasted
            return
        if not isinstance(error, PeerBusyError):
            delivery.failed.add(address)
        if came:
            sums = self._budget.waste(address, wasted, self._clock())
            self._emit(FetchFailed(str(info.version), format_address(address), str(error), *sums))
        if not self._broke(address, came, moves):
            self._count(info, address, error, came, wasted)

    def succeeded(self, delivery: Delivery) -> list[Address]:
        """The release is here; who gave it, or a good part of it: a few bytes do not make up for what was before."""
        enough = delivery.gave.total() / _GIVERS
        givers = [address for address, count in delivery.gave.items() if count and count >= enough]
        found = [each for each in givers or [delivery.candidate.address] if each not in delivery.failed]
        for address in found:
            self._budget.succeeded(address)
            self._ways().reached(address)
        return found

    def slow(self, delivery: Delivery) -> None:
        """It was given up for another one."""
        info, address = delivery.candidate.info, delivery.candidate.address
        self._budget.slow(info.hash.hex(), info.file_size, address, delivery.received, self._clock())

    def say(self, delivery: Delivery, reason: str, *, in_vain: bool = True) -> None:
        """A fetch ended without a release; ``in_vain``: nothing that it wrote is of use."""
        info, address = delivery.candidate.info, delivery.candidate.address
        wasted = self._budget.waste(address, delivery.received if in_vain else 0, self._clock())
        self._emit(FetchFailed(str(info.version), format_address(address), reason, *wasted))

    def _broke(self, address: Address, came: int, moves: int) -> bool:
        """Whether our address changed meanwhile, which is nobody's fault; who was there is asked again at once."""
        if moves == self._moves():
            return False
        if came:
            self._ways().reached(address)
        return True

    def _count(self, info: PatchInfo, address: Address, error: Exception, came: int, wasted: int) -> None:
        now = self._clock()
        if isinstance(error, PeerBusyError) and not wasted:
            self._budget.busy(address, now)
        # Who says so after it sent something was not too busy to begin: else that word would make any waste free.
        elif came or not isinstance(error, PeerError):
            self._budget.failed(info.hash.hex(), info.file_size, address, wasted, now)
        else:
            self._budget.unreachable(address, now)
            self._ways().failed(address)
