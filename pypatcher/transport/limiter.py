"""How much we upload, to whom, and how fast. Pure: a clock is passed in, waiting is the caller's.

DESIGN "Transport and transfer": 4 uploads at once, 1 per address, 1 MiB/s to outside the LAN and 20 times the file's
size a day. The LAN, loopback included, is limited only by how many uploads a small device can hold at once: its
addresses are not counted one by one, because many devices (and tests) may share one there. One address gets at most a
quarter of the day's bytes, so that it cannot use them up for everybody.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from pypatcher.addresses import Address, is_lan
from pypatcher.transport.admission import host_group

__all__ = ["Upload", "UploadLimiter"]

_DAY = 86400.0
_MEBIBYTE = 1 << 20
_BURST_SECONDS = 0.25
_SHARES = 24
_ADDRESS_PART = 4
_PIECE, _SMALLEST_PIECE = 65536, 1024


class UploadLimiter:
    """Admits uploads and tells each how long to wait. One for all releases that a node serves."""

    def __init__(
        self,
        rate: int = _MEBIBYTE,
        *,
        uploads: int = 4,
        per_address: int = 1,
        daily_factor: int = 20,
        lan_uploads: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limits.

        Args:
            rate: bytes a second to outside the LAN, all uploads together; 0 serves nobody at all.
            uploads: at once, to outside the LAN.
            per_address: at once, to one address outside the LAN (one /64 for IPv6).
            daily_factor: bytes in any 24 hours to outside the LAN, as a multiple of the size of the file asked for;
                to one address a quarter of them.
            lan_uploads: at once, within the LAN.
            clock: monotonic seconds.
        """
        self.rate = rate
        self._uploads, self._per_address, self._lan_uploads = uploads, per_address, lan_uploads
        self._daily_factor = daily_factor
        self._clock = clock
        self._active: Counter[str] = Counter()
        self._active_lan = 0
        self._free_at = clock()
        self._sent: deque[tuple[float, Counter[str]]] = deque()

    def admit(self, address: Address, size: int) -> Upload | None:
        """A place for an upload of ``size`` bytes, or None while the limits leave none."""
        if self.rate <= 0:
            return None
        if is_lan(address):
            if self._active_lan >= self._lan_uploads:
                return None
            self._active_lan += 1
            return Upload(self, None)
        group = host_group(address)
        full = self._active.total() >= self._uploads or self._active[group] >= self._per_address
        today = self._today()
        allowed = self._daily_factor * size
        if full or today.total() + size > allowed or today[group] + size > max(size, allowed // _ADDRESS_PART):
            return None
        self._active[group] += 1
        return Upload(self, group)

    def spend(self, group: str, count: int) -> float:
        """Account for ``count`` bytes to outside the LAN; returns the seconds to wait before sending them."""
        now = self._clock()
        if not self._sent or now - self._sent[-1][0] > _DAY / _SHARES:
            self._forget(now - _DAY)
            self._sent.append((now, Counter()))
        self._sent[-1][1][group] += count
        delay = max(0.0, self._free_at - now - _BURST_SECONDS)
        self._free_at = max(now, self._free_at) + count / self.rate
        return delay

    def release(self, group: str | None) -> None:
        """An upload ended."""
        if group is None:
            self._active_lan -= 1
        else:
            self._active[group] -= 1
            if not self._active[group]:
                del self._active[group]

    def _today(self) -> Counter[str]:
        self._forget(self._clock() - _DAY)
        return sum((share for _, share in self._sent), Counter())

    def _forget(self, horizon: float) -> None:
        while self._sent and self._sent[0][0] <= horizon:
            self._sent.popleft()


class Upload:
    """One upload's place; ``end`` gives it back."""

    __slots__ = ("_ended", "_group", "_limiter")

    def __init__(self, limiter: UploadLimiter, group: str | None) -> None:
        """Made by ``UploadLimiter.admit``."""
        self._limiter, self._group, self._ended = limiter, group, False

    @property
    def piece(self) -> int:
        """How many bytes to send between two questions: a quarter of a second's worth, 64 KiB at most."""
        return _PIECE if self._group is None else min(_PIECE, max(_SMALLEST_PIECE, self._limiter.rate // 4))

    def spend(self, count: int) -> float:
        """Seconds to wait before sending the next ``count`` bytes."""
        return 0.0 if self._group is None else self._limiter.spend(self._group, count)

    def end(self) -> None:
        """Give the place back; once is enough."""
        if not self._ended:
            self._ended = True
            self._limiter.release(self._group)
